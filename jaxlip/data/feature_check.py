"""Which features tell nothing: slots that never vary, slots that say the same twice, points that never move."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Bool, Float

from jaxlip.data.face import FaceData
from jaxlip.face.features import DEAD, FEATURE_SETS, stored_ids
from jaxlip.face.mean_face import mean_face

TWIN = 0.9999
"""Correlation, of either sign, above which two slots are one."""
FRAMES = 200
"""Frames that are looked at for points that coincide."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
    """A slot over the sampled frames: of every node (`node`), or one a frame."""

    name: str
    node: bool
    mean: float
    std: float
    in_time: float
    """Standard deviation around the mean of each clip (of each node)."""

    @property
    def dead(self) -> bool:
        return min(self.std, self.in_time) < DEAD


@dataclasses.dataclass(frozen=True, kw_only=True)
class Twins:
    """Two slots with the same content up to scale and offset; `defined` where they have on any face whatsoever."""

    first: str
    second: str
    correlation: float
    defined: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureCheck:
    """What the features of a sample of clips tell; points are FaceMesh ids."""

    clips: int
    slots: tuple[Slot, ...]
    twins: tuple[Twins, ...]
    still_points: tuple[int, ...]
    """Points that never move in their clips."""
    same_points: tuple[tuple[int, int], ...]
    """Pairs of points that always lie in the same place."""


def check_features(cuts: Sequence[Mapping[str, np.ndarray]], config: FaceData) -> FeatureCheck:
    """Computes the config's features on cut-out clips of equal length, one at the least."""
    batch = {key: np.stack([cut[key] for cut in cuts]) for key in cuts[0]}
    chosen, ids = FEATURE_SETS[config.features], stored_ids(config.preset)
    compute = jax.jit(functools.partial(chosen.compute, ids=ids, nodes=len(ids)))
    landmarks_BTVC, frames_BT = batch["landmarks_BTVC"], batch["frames_BT"]
    node_BTVD, frame_BTD = map(np.asarray, compute(landmarks_BTVC, frames_BT, batch["speech_BT"]))
    defined = _twins_by_definition(compute, landmarks_BTVC.shape, ids, (chosen.node_slots, chosen.frame_slots))
    node_D = [_slot(name, node_BTVD[..., d], frames_BT, True) for d, name in enumerate(chosen.node_slots)]
    frame_D = [_slot(name, frame_BTD[..., d], frames_BT, False) for d, name in enumerate(chosen.frame_slots)]
    twins = []
    for values, names in ((node_BTVD, chosen.node_slots), (frame_BTD, chosen.frame_slots)):
        for first, second, r in _twins(values[frames_BT], names):
            twins.append(Twins(first=first, second=second, correlation=r, defined=(first, second) in defined))
    moving_V = _in_time(landmarks_BTVC, frames_BT).max(axis=-1)
    return FeatureCheck(
        clips=len(cuts),
        slots=(*node_D, *frame_D),
        twins=tuple(twins),
        still_points=tuple(id_ for id_, std in zip(ids, moving_V, strict=True) if std < DEAD),
        same_points=_same_points(landmarks_BTVC[frames_BT], ids),
    )


def _in_time(values: np.ndarray, frames_BT: Bool[np.ndarray, "B T"]) -> np.ndarray:
    """Standard deviation over real frames around each clip's own mean, of [B, T, ...] -> [...]."""
    real = frames_BT.reshape(*frames_BT.shape, *[1] * (values.ndim - 2)).astype(np.float64)
    mean = (values * real).sum(axis=1, keepdims=True) / np.maximum(real.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.sqrt((((values - mean) * real) ** 2).sum(axis=(0, 1)) / max(frames_BT.sum(), 1)))


def _slot(name: str, values: np.ndarray, frames_BT: np.ndarray, node: bool) -> Slot:
    real = values[frames_BT].astype(np.float64)
    in_time = float(np.sqrt((_in_time(values, frames_BT) ** 2).mean()))
    return Slot(name=name, node=node, mean=float(real.mean()), std=float(real.std()), in_time=in_time)


def _twins(values: Float[np.ndarray, "F *V D"], names: Sequence[str]) -> list[tuple[str, str, float]]:
    """(slot, slot, correlation) of slots of the same kind; dead ones correlate with nothing."""
    centred_XD = values.reshape(-1, len(names)).astype(np.float64)
    centred_XD = centred_XD - centred_XD.mean(axis=0, keepdims=True)
    size_D = np.linalg.norm(centred_XD, axis=0)
    alive_D = size_D > DEAD * np.sqrt(len(centred_XD))
    unit_XD = centred_XD / np.where(alive_D, size_D, np.inf)[None]
    correlation_DD = unit_XD.T @ unit_XD
    pairs = np.argwhere(np.triu(np.abs(correlation_DD) > TWIN, k=1))
    return [(names[int(a)], names[int(b)], float(correlation_DD[a, b])) for a, b in pairs]


def _twins_by_definition(compute, shape: tuple[int, ...], ids: tuple[int, ...], slots) -> set[tuple[str, str]]:
    """Slots that are one on faces whose points all move at random: no data can tell them apart."""
    rng = np.random.default_rng(0)
    faces_BTVC = mean_face()[list(ids)] + rng.normal(0, 0.05, shape).astype(np.float32)
    found = compute(faces_BTVC.astype(np.float32), np.ones(shape[:2], bool), rng.random(shape[:2]) < 0.5)
    both = zip((found.node_BTVD, found.frame_BTD), slots, strict=True)
    return {(a, b) for values, names in both for a, b, _ in _twins(np.asarray(values[:8]), names)}


def _same_points(landmarks_FVC: np.ndarray, ids: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    some_FVC = landmarks_FVC[:: max(1, len(landmarks_FVC) // FRAMES)]
    apart_VV = np.abs(some_FVC[:, :, None] - some_FVC[:, None]).max(axis=(0, 3))
    return tuple(
        (ids[a], ids[b]) for a, b in np.argwhere(np.triu(apart_VV < DEAD, k=1) & ~np.eye(len(ids), dtype=bool))
    )
