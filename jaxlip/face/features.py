"""Features of landmarks, inside jit, factored: a part per node and a part per frame; nothing is stored 88 times.

The original 31 features of a node are [x, y, z] and 28 quantities that are the same at every node of a frame: an
18-slot action-unit block (ten are defined; the eight free slots carry the speech mask and the motion of the main
quantities) and ten geometric quantities. Lengths are in inter-ocular distances, y points down, z away from the camera.
Action units are named after FACS (Ekman and Friesen, 1978); the definitions are distances between landmarks, not
trained detectors.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxlip.config import Component
from jaxlip.face.presets import LIPS_INNER, LIPS_OUTER, preset_ids

AU_SLOTS = (
    "au10_upper_lip_raiser",
    "au12_corner_puller",
    "au15_corner_depressor",
    "au17_chin_raiser",
    "au18_pucker",
    "au20_stretcher",
    "au23_tightener",
    "au25_lips_part",
    "au26_jaw_drop",
    "au27_mouth_stretch",
    "speech",
    "d_opening",
    "d_width",
    "d_jaw",
    "d_protrusion",
    "d_corner_height",
    "d_inner_height",
    "d_area",
)
GEOMETRIC_SLOTS = (
    "width",
    "height",
    "jaw",
    "aspect",
    "protrusion",
    "area",
    "inner_width",
    "symmetry",
    "inner_height",
    "perimeter",
)
FRAME_SLOTS = AU_SLOTS + GEOMETRIC_SLOTS
NODE_SLOTS = ("x", "y", "z")

SPECTRUM_SIGNALS = ("opening", "width", "jaw", "protrusion")
SPECTRUM_WINDOW = 8
SPECTRUM_BINS = (1, 2, 3, 4)
EXTENDED_NODE_SLOTS = tuple(f"{kind}{axis}" for kind in ("", "velocity_", "acceleration_", "lip_") for axis in "xyz")
EXTENDED_FRAME_SLOTS = FRAME_SLOTS + tuple(
    f"{s}_{25 * b / SPECTRUM_WINDOW:g}Hz" for s in SPECTRUM_SIGNALS for b in SPECTRUM_BINS
)

# Keeps the aspect ratio finite on a closed mouth; about the height of a slightly open one.
ASPECT_FLOOR = 0.1

# A slot whose standard deviation over the training split is below this never varies.
DEAD = 1e-7

FEATURE_IDS = tuple(sorted({*LIPS_OUTER, *LIPS_INNER, 1, 152}))


@functools.cache
def stored_ids(preset: str) -> tuple[int, ...]:
    """FaceMesh ids that are kept for a preset: its nodes first, then points that only features need."""
    nodes = preset_ids(preset)
    return nodes + tuple(i for i in FEATURE_IDS if i not in set(nodes))


class Features(NamedTuple):
    """Factored features: node_BTVD [B, T, V, 3 or 12] and frame_BTD [B, T, 28 or 44]."""

    node_BTVD: Float[Array, "B T V Dn"]
    frame_BTD: Float[Array, "B T Df"]

    def dense(self) -> Float[Array, "B T V D"]:
        """The two parts side by side, the frame part repeated at every node."""
        spread = jnp.broadcast_to(self.frame_BTD[:, :, None], (*self.node_BTVD.shape[:3], self.frame_BTD.shape[-1]))
        return jnp.concatenate([self.node_BTVD, spread], axis=-1)


class _Points:
    """Landmarks by FaceMesh id, and the few measures that features are made of (all [B, T])."""

    def __init__(self, landmarks_BTVC, ids: tuple[int, ...]):
        self.landmarks_BTVC = landmarks_BTVC
        self.row = {id_: v for v, id_ in enumerate(ids)}

    def __call__(self, *ids: int):
        """[B, T, C] of one id, [B, T, n, C] of several."""
        rows = np.array([self.row[i] for i in ids])
        points = self.landmarks_BTVC[:, :, rows]
        return points[:, :, 0] if len(ids) == 1 else points

    def distance(self, a: int, b: int):
        return _norm(self(a) - self(b))


def _norm(vector):
    # The gradient of a norm at 0 is NaN without the floor; landmarks may be trained through (adversaries, saliency).
    return jnp.sqrt(jnp.maximum(jnp.sum(vector**2, axis=-1), 1e-12))


def _polygon_area(loop_BTnC):
    x, y = loop_BTnC[..., 0], loop_BTnC[..., 1]
    return jnp.abs(jnp.sum(x * jnp.roll(y, -1, axis=-1) - jnp.roll(x, -1, axis=-1) * y, axis=-1)) / 2


def _polygon_perimeter(loop_BTnC):
    return jnp.sum(_norm(loop_BTnC - jnp.roll(loop_BTnC, -1, axis=-2)), axis=-1)


def _mean_over(values_BT, mask_BT):
    total_B = jnp.sum(values_BT * mask_BT, axis=1, keepdims=True)
    return total_B / jnp.maximum(jnp.sum(mask_BT, axis=1, keepdims=True), 1)


def difference(values, frames_BT: Bool[Array, "B T"]):
    """First difference in time (axis 1) of [B, T, ...]; zero at the first frame and beside frames that are not real."""
    both_BT = frames_BT & jnp.pad(frames_BT[:, :-1], ((0, 0), (1, 0)))
    steps = values - jnp.pad(values[:, :-1], ((0, 0), (1, 0)) + ((0, 0),) * (values.ndim - 2), mode="edge")
    return jnp.where(both_BT.reshape(both_BT.shape + (1,) * (values.ndim - 2)), steps, 0)


def measures(landmarks_BTVC: Float[Array, "B T V 3"], ids: tuple[int, ...]) -> dict[str, Float[Array, "B T"]]:
    """The main quantities of a mouth by name: opening, width, jaw, protrusion, corner_height, inner_height, area."""
    p = _Points(landmarks_BTVC, ids)
    lips_BTnC = p(*LIPS_OUTER, *LIPS_INNER)
    corners_BTC = p(61, 291).mean(axis=2)
    uppers, lowers = p(82, 13, 312), p(87, 14, 317)
    return {
        "opening": p.distance(13, 14),
        "width": p.distance(61, 291),
        "jaw": p.distance(152, 0),
        # z points away from the camera, so lips pushed forward have a smaller z than the corners.
        "protrusion": corners_BTC[..., 2] - p(0, 13, 14, 17)[..., 2].mean(axis=-1),
        "corner_height": corners_BTC[..., 1] - lips_BTnC[..., 1].mean(axis=-1),
        "inner_height": _norm(uppers - lowers).mean(axis=-1),
        "area": _polygon_area(p(*LIPS_INNER)),
    }


def frame_features(
    landmarks_BTVC: Float[Array, "B T V 3"],
    frames_BT: Bool[Array, "B T"],
    speech_BT: Bool[Array, "B T"],
    ids: tuple[int, ...],
) -> Float[Array, "B T 28"]:
    """The 28 per-frame slots, in the order of FRAME_SLOTS. `ids` are the FaceMesh ids of the landmark axis."""
    p = _Points(landmarks_BTVC, ids)
    m = measures(landmarks_BTVC, ids)
    width_BT, opening_BT = m["width"], m["opening"]
    lift_BT = p(0)[..., 1] - p(1)[..., 1]
    inner_width_BT = p.distance(78, 308)
    midline_BT = p(0, 13, 14, 17)[..., 0].mean(axis=-1)
    values = {
        # y points down: a raised lip is nearer to the nose than it is on average over the clip.
        "au10_upper_lip_raiser": _mean_over(lift_BT, frames_BT) - lift_BT,
        "au12_corner_puller": width_BT / jnp.maximum(_mean_over(width_BT, frames_BT), 1e-6) - 1,
        "au15_corner_depressor": m["corner_height"],
        "au17_chin_raiser": p.distance(152, 14),
        "au18_pucker": m["protrusion"] / jnp.maximum(width_BT, ASPECT_FLOOR),
        "au20_stretcher": width_BT - p.distance(0, 17),
        "au23_tightener": 1 - width_BT,
        "au25_lips_part": opening_BT,
        "au26_jaw_drop": m["jaw"],
        "au27_mouth_stretch": width_BT * opening_BT,
        "speech": speech_BT.astype(landmarks_BTVC.dtype),
        **{f"d_{name}": difference(m[name], frames_BT) for name in m},
        "width": width_BT,
        "height": opening_BT,
        "jaw": m["jaw"],
        "aspect": width_BT / (opening_BT + ASPECT_FLOOR),
        "protrusion": m["protrusion"],
        "area": m["area"],
        "inner_width": inner_width_BT,
        # Signed: which way the middle of the lips lies off the middle of the corners.
        "symmetry": midline_BT - p(61, 291)[..., 0].mean(axis=-1),
        "inner_height": m["inner_height"],
        "perimeter": _polygon_perimeter(p(*LIPS_OUTER)),
    }
    return jnp.stack([values[name] for name in FRAME_SLOTS], axis=-1)


def spectrum(values_BT: Float[Array, "B T"], frames_BT: Bool[Array, "B T"]) -> Float[Array, "B T 4"]:
    """Magnitudes of SPECTRUM_BINS of a Hann-windowed DFT over the 8 frames around each frame (padding counts as 0)."""
    centred_BT = jnp.where(frames_BT, values_BT - _mean_over(values_BT, frames_BT), 0)
    before = SPECTRUM_WINDOW // 2
    padded = jnp.pad(centred_BT, ((0, 0), (before, SPECTRUM_WINDOW - 1 - before)))
    n = np.arange(SPECTRUM_WINDOW)
    hann = np.sin(np.pi * (n + 0.5) / SPECTRUM_WINDOW) ** 2
    angle = 2 * np.pi * np.outer(SPECTRUM_BINS, n) / SPECTRUM_WINDOW
    windows = jnp.stack([padded[:, k : k + values_BT.shape[1]] for k in n], axis=-1)
    real = windows @ (np.cos(angle) * hann).T.astype(np.float32)
    imaginary = windows @ (np.sin(angle) * hann).T.astype(np.float32)
    # Linear near zero, so that silence has a gradient.
    return jnp.sqrt(real**2 + imaginary**2 + 1e-8) - 1e-4


def original31(landmarks_BTVC, frames_BT, speech_BT, *, ids: tuple[int, ...], nodes: int) -> Features:
    """The 31 features: x, y, z of the first `nodes` landmarks, and the 28 of `frame_features`."""
    return Features(landmarks_BTVC[:, :, :nodes], frame_features(landmarks_BTVC, frames_BT, speech_BT, ids))


def extended56(landmarks_BTVC, frames_BT, speech_BT, *, ids: tuple[int, ...], nodes: int) -> Features:
    """The motion set: position, velocity, acceleration and position relative to the lip centre of each node (12), and
    the 28 per-frame slots with the short-time spectrum of four of them (44)."""
    node_BTVC = landmarks_BTVC[:, :, :nodes]
    velocity_BTVC = difference(node_BTVC, frames_BT)
    acceleration_BTVC = difference(velocity_BTVC, frames_BT)
    lips_BT1C = _Points(landmarks_BTVC, ids)(*LIPS_OUTER, *LIPS_INNER).mean(axis=2, keepdims=True)
    m = measures(landmarks_BTVC, ids)
    base_BTD = frame_features(landmarks_BTVC, frames_BT, speech_BT, ids)
    spectra = [spectrum(m[name], frames_BT) for name in SPECTRUM_SIGNALS]
    return Features(
        jnp.concatenate([node_BTVC, velocity_BTVC, acceleration_BTVC, node_BTVC - lips_BT1C], axis=-1),
        jnp.concatenate([base_BTD, *spectra], axis=-1),
    )


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """A named way to compute features, and the names of its slots."""

    compute: Callable[..., Features]
    node_slots: tuple[str, ...]
    frame_slots: tuple[str, ...]


FEATURE_SETS: dict[str, FeatureSet] = {
    "original31": FeatureSet(original31, NODE_SLOTS, FRAME_SLOTS),
    "extended56": FeatureSet(extended56, EXTENDED_NODE_SLOTS, EXTENDED_FRAME_SLOTS),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standardizer(Component):
    """Centre and scale of every slot, measured on the training split and kept with the checkpoint.

    Node slots are centred on the training mean over all nodes, not on each node's own: nodes share their weights, and
    know by their coordinates which part of the face they are.
    """

    node_mean: tuple[float, ...]
    node_std: tuple[float, ...]
    frame_mean: tuple[float, ...]
    frame_std: tuple[float, ...]

    def __call__(self, features: Features, frames_BT: Bool[Array, "B T"]) -> Features:
        """(x - mean) / std, and zero in frames that are not real."""

        def standardize(values, mean: tuple[float, ...], std: tuple[float, ...]):
            ones = (1,) * (values.ndim - 1)
            mean_D, std_D = (np.array(slots, np.float32).reshape(*ones, -1) for slots in (mean, std))
            real = frames_BT.reshape(*frames_BT.shape, *ones[1:])
            return jnp.where(real, (values - mean_D) / std_D, 0)

        return Features(
            standardize(features.node_BTVD, self.node_mean, self.node_std),
            standardize(features.frame_BTD, self.frame_mean, self.frame_std),
        )


def fit_standardizer(
    features: Features, frames_BT: np.ndarray, slots: tuple[tuple[str, ...], tuple[str, ...]]
) -> tuple[Standardizer, list[str]]:
    """Measures a Standardizer on real frames, in float64; also names the slots that never vary.

    A slot without variance keeps scale 1: it is dead, and the caller says so.
    """
    real_F = np.asarray(frames_BT).reshape(-1)
    node_XD = np.asarray(features.node_BTVD, np.float64).reshape(len(real_F), -1, len(slots[0]))[real_F]
    frame_XD = np.asarray(features.frame_BTD, np.float64).reshape(len(real_F), 1, len(slots[1]))[real_F]
    means, stds, dead = [], [], []
    for values_FXD, names in ((node_XD, slots[0]), (frame_XD, slots[1])):
        std_D = values_FXD.std(axis=(0, 1))
        dead += [name for name, std in zip(names, std_D, strict=True) if std < DEAD]
        means.append(tuple(values_FXD.mean(axis=(0, 1)).tolist()))
        stds.append(tuple(np.where(std_D < DEAD, 1.0, std_D).tolist()))
    return Standardizer(node_mean=means[0], node_std=stds[0], frame_mean=means[1], frame_std=stds[1]), dead


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceInput(Component):
    """What a model needs to know to turn stored landmarks into standardised features."""

    features: str
    """A key of FEATURE_SETS."""
    ids: tuple[int, ...]
    """FaceMesh ids of the landmark axis; the graph's nodes first."""
    nodes: int
    """How many of them are graph nodes."""
    standardizer: Standardizer
    mask_channel: bool = True
    """Whether the slot "speech" marks the frames of the word; else it marks all real frames, and says nothing."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of node slots and of frame slots."""
        chosen = FEATURE_SETS[self.features]
        return len(chosen.node_slots), len(chosen.frame_slots)

    @property
    def width(self) -> int:
        """Numbers of `vectors` a frame."""
        node, frame = self.sizes
        return self.nodes * node + frame

    def vectors(self, landmarks_BTVC, frames_BT, speech_BT) -> Float[Array, "B T D"]:
        """Every feature of every node of a frame side by side, for models that know of no graph."""
        features = self(landmarks_BTVC, frames_BT, speech_BT)
        return jnp.concatenate(
            [features.node_BTVD.reshape(*frames_BT.shape, -1), features.frame_BTD],
            axis=-1,
        )

    def __call__(self, landmarks_BTVC, frames_BT, speech_BT) -> Features:
        compute = FEATURE_SETS[self.features].compute
        marked_BT = speech_BT if self.mask_channel else frames_BT
        raw = compute(landmarks_BTVC, frames_BT, marked_BT, ids=self.ids, nodes=self.nodes)
        return self.standardizer(raw, frames_BT)
