"""Clips of any face source -> fixed-shape arrays of a preset's landmarks: gaps, normalisation, windows, buckets."""

import collections
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxlip.config import Component, require
from jaxlip.data.batches import Split, bucket_of
from jaxlip.data.clips import FARTHEST, Affect, Clip, ClipRef, SpokenWord
from jaxlip.data.pronunciations import Pronunciations
from jaxlip.data.sources import SOURCES, Slots
from jaxlip.data.sources.visemes import Visemes
from jaxlip.face.features import FEATURE_SETS, FaceInput, Standardizer, fit_standardizer, stored_ids
from jaxlip.face.normalize import NORMALIZERS, interpolate_gaps, rows_of, smooth
from jaxlip.face.presets import PRESETS
from jaxlip.face.topology import Topology

STANDARDIZE_FRAMES = 20_000
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceData(Component):
    """Where face clips come from and how they become arrays."""

    source: str = "visemes"
    """Where clips come from: visemes (built in, no download), grid, lrw, lrs, manifest (a CSV file), prepared, or
    extracted (landmarks without words)."""
    root: str | None = None
    """Folder of the corpus (manifest: the CSV file; prepared: what `jaxlip prepare` wrote); not used by visemes."""
    landmarks: str | None = None
    """Folder of the landmark files, where they do not lie where the source expects them."""
    splits: str | None = None
    """JSON file {"train": [clips], "val": [...], "test": [...]}; default: <root>/splits.json, else a hash of names."""
    preset: str = "anatomical88"
    """Which landmarks are graph nodes: anatomical88, symmetric88, lips40 or roi62."""
    nearest: int = 5
    """Each node is linked to this many nearest neighbours on the mean face, beside the anatomical edges."""
    features: str = "original31"
    """What is computed from the landmarks: original31 or extended56."""
    mask_channel: bool = True
    """Whether the features say which frames of the window are the word's own (of a sentence: have a face)."""
    normalize: str = "clip"
    """One similarity transform a clip (clip), one a frame (frame), or the original's per-frame min-max (minmax)."""
    smooth: float | None = None
    """Weight of the new frame in zero-phase exponential smoothing, in (0, 1]; None leaves landmarks as they are."""
    window: int = 29
    """Frames around each word; the context is kept, since trimming it costs accuracy."""
    centred: bool = True
    """Whether a word is in the middle of its window even where the clip ends; else windows lie inside of their clips,
    and one as long as the clip is all of it."""
    min_detection: float = 0.7
    """Clips with a face in a smaller part of their frames are left out, and counted."""
    max_gap: int = 12
    """Frames without a face that are interpolated; longer gaps are masked."""
    buckets: tuple[int, ...] = (29, 48, 75)
    """Lengths in frames that examples are padded to."""
    resident_gib: float | None = None
    """Landmarks of up to so many GiB stay in device memory, more are streamed from disk while training; None takes half
    of the device's memory (of the host's where they are the same)."""
    visemes: Visemes = Visemes()
    """The built-in corpus."""

    def __post_init__(self):
        require(self.source in SOURCES, self, "source", f"one of {', '.join(SOURCES)}")
        unused = self.source == "visemes" and (self.root or self.splits or self.landmarks)
        require(
            not unused, self, "source", "that of your folder: add --data.source grid; visemes read no root or splits"
        )
        require(self.preset in PRESETS, self, "preset", f"one of {', '.join(PRESETS)}")
        require(self.features in FEATURE_SETS, self, "features", f"one of {', '.join(FEATURE_SETS)}")
        require(self.normalize in NORMALIZERS, self, "normalize", f"one of {', '.join(NORMALIZERS)}")
        require(self.smooth is None or 0 < self.smooth <= 1, self, "smooth", "in (0, 1] or None")
        require(self.window >= 3, self, "window", "3 or more")
        require(self.nearest >= 1, self, "nearest", "1 or more")
        require(0 < self.min_detection <= 1, self, "min_detection", "in (0, 1]")
        require(self.resident_gib is None or self.resident_gib >= 0, self, "resident_gib", "0 or more, or None")
        require(self.max_gap >= 0, self, "max_gap", "0 or more")
        require(
            bool(self.buckets) and min(self.buckets) >= 1 and bool(bucket_of(self.window, self.buckets)),
            self,
            "buckets",
            f"lengths of which one holds the window of {self.window}",
        )

    def vocabulary(self) -> tuple[str, ...]:
        """Every word that the source may label, in class order."""
        return SOURCES[self.source].vocabulary(self)

    def slots(self) -> Slots:
        """The grammar of the source, if it has one."""
        return SOURCES[self.source].slots(self)

    def pronunciations(self) -> Pronunciations:
        """The sounds of the source's words, where it knows them."""
        return SOURCES[self.source].pronunciations(self)

    def clips(self) -> Iterator[tuple[ClipRef, Clip | str]]:
        """Every clip of the source, or the reason why it cannot be used."""
        return SOURCES[self.source].read(self)

    def load(self, ref: ClipRef) -> "FaceClip | str":
        """A clip of the source read again and prepared, or the reason why it is left out. Raises DamagedClip."""
        return prepare(SOURCES[self.source].load(self, ref), self)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FaceClip:
    """A prepared clip: normalised landmarks of the stored ids, finite in every frame.

    `landmarks_TVC` f32 [T, V, 3]; `frames_T` frames to be used; `detected_T` frames with a face of their own.
    """

    name: str
    split: str
    landmarks_TVC: np.ndarray
    frames_T: np.ndarray
    detected_T: np.ndarray
    words: tuple[SpokenWord, ...]
    affect: Affect | None = None
    """Valence and arousal from -1 to 1, where they are known."""
    number: int = 0
    """Examples come in this order, those of equal numbers as they are read."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A stretch of a clip with its target: the frames [first, first + length).

    `speech_T` bool over the frames of the whole clip: what the mask channel of the input marks.
    """

    clip: FaceClip
    name: str
    first: int
    length: int
    speech_T: np.ndarray
    label: Any


class Rejections:
    """Counts what is left out, by reason, so that nothing is lost in silence."""

    def __init__(self):
        self.names: dict[str, list[str]] = collections.defaultdict(list)

    def add(self, name: str, reason: str) -> None:
        self.names[reason].append(name)

    def counts(self) -> dict[str, int]:
        return {reason: len(names) for reason, names in self.names.items()}

    def notes(self) -> list[str]:
        return [
            f"left out {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): {reason}"
            for reason, names in self.names.items()
        ]


def prepare(clip: Clip, config: FaceData) -> FaceClip | str:
    """Fills gaps, normalises, smooths, and keeps the stored ids; or the reason why the clip is left out."""
    finite_T = np.isfinite(clip.landmarks).all(axis=(1, 2))
    detected_T = clip.detected & finite_T
    if detected_T.mean() < config.min_detection:
        return f"a face in less than {config.min_detection:.0%} of the frames"
    if np.abs(clip.landmarks[detected_T]).max() > FARTHEST:
        return f"landmarks lie more than {FARTHEST} picture widths away"
    landmarks_TVC, frames_T = interpolate_gaps(clip.landmarks, detected_T, max_gap=config.max_gap)
    # A face without extent cannot be scaled; it is found out below.
    with np.errstate(all="ignore"):
        normalized_TVC = NORMALIZERS[config.normalize](landmarks_TVC, detected_T, clip.size, clip.ids)
    kept_TVC = np.ascontiguousarray(normalized_TVC[:, rows_of(stored_ids(config.preset), clip.ids)])
    if config.smooth is not None:
        kept_TVC = np.ascontiguousarray(smooth(kept_TVC, alpha=config.smooth))
    if not np.isfinite(kept_TVC).all():
        return "landmarks are not finite after normalisation"
    return FaceClip(
        name=clip.name,
        split=clip.split,
        landmarks_TVC=kept_TVC,
        frames_T=frames_T,
        detected_T=detected_T,
        words=clip.words,
        affect=clip.affect,
        number=clip.number,
    )


def face_clips(config: FaceData, rejections: Rejections) -> Iterator[tuple[ClipRef, FaceClip]]:
    """Reads and prepares every clip of the source; those that cannot be used are counted in `rejections`."""
    for ref, clip in config.clips():
        if isinstance(clip, str):
            rejections.add(ref.name, clip)
            continue
        prepared = prepare(clip, config)
        if isinstance(prepared, str):
            rejections.add(clip.name, prepared)
        else:
            yield ref, prepared


def fit_input(config: FaceData, topology: Topology, train: Split) -> tuple[FaceInput, list[str]]:
    """The model's input, with slots standardised on an even sample of the training split; and dead slots' names."""
    chosen = FEATURE_SETS[config.features]
    ids, nodes = stored_ids(config.preset), len(topology.ids)
    compute = jax.jit(functools.partial(chosen.compute, ids=ids, nodes=nodes))
    parts = []
    for bucket, batch in enumerate(train.buckets):
        length = batch.frames_BT.shape[1]
        step = max(1, len(train) * length // STANDARDIZE_FRAMES)
        sample = train.take(bucket, np.arange(0, len(batch.frames_BT), step))
        parts.append((compute(sample.landmarks_BTVC, sample.frames_BT, sample.speech_BT), sample.frames_BT))
    flat = [
        np.concatenate([np.asarray(array).reshape(-1, *array.shape[2:]) for array in arrays])[:, None]
        for arrays in zip(*((f.node_BTVD, f.frame_BTD, frames_BT) for f, frames_BT in parts), strict=True)
    ]
    slots = (chosen.node_slots, chosen.frame_slots)
    standardizer, dead = fit_standardizer(type(parts[0][0])(flat[0], flat[1]), flat[2], slots)
    return face_input(config, ids, nodes, standardizer), dead


def face_input(config: FaceData, ids: tuple[int, ...], nodes: int, standardizer: Standardizer) -> FaceInput:
    return FaceInput(
        features=config.features,
        ids=ids,
        nodes=nodes,
        standardizer=standardizer,
        mask_channel=config.mask_channel,
    )
