"""Examples -> splits of padded arrays in length buckets, resident or streamed, whichever their size allows."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxlip.data.batches import FaceBatch, Split, bucket_of
from jaxlip.data.clips import ClipRef, DamagedClip
from jaxlip.data.face import Example, FaceClip
from jaxlip.data.stream import StreamedSplit
from jaxlip.errors import UserError

StackLabels = Callable[[list[Any], int], Any]
"""`stack_labels(labels, frames)` makes the target of a bucket of so many frames."""


@runtime_checkable
class ClipData(Protocol):
    """A data config whose clips, prepared, can be read again one by one (see FaceData)."""

    @property
    def buckets(self) -> tuple[int, ...]: ...

    @property
    def resident_gib(self) -> float | None: ...

    def load(self, ref: ClipRef) -> FaceClip | str: ...


def cut_landmarks(clip: FaceClip, first: int, length: int, frames: int) -> np.ndarray:
    """f32 [frames, V, 3]: `length` frames of a clip from `first` on, zeros outside of it and after them."""
    landmarks_TVC = np.zeros((frames, *clip.landmarks_TVC.shape[1:]), np.float32)
    to, take = _overlap(len(clip.frames_T), first, length)
    landmarks_TVC[to] = clip.landmarks_TVC[take]
    return landmarks_TVC


def _overlap(clip_frames: int, first: int, length: int) -> tuple[slice, slice]:
    """Where in a stretch that begins at `first` the frames of the clip are, and which they are."""
    take = slice(max(first, 0), min(first + length, clip_frames))
    offset = take.start - first
    return slice(offset, offset + take.stop - take.start), take


def cut_masks(example: Example, frames: int) -> dict[str, np.ndarray]:
    """The example's masks, padded on the right to `frames` frames with False."""
    clip = example.clip
    to, take = _overlap(len(clip.frames_T), example.first, example.length)
    frames_T, detected_T, speech_T = np.zeros((3, frames), bool)
    frames_T[to], detected_T[to], speech_T[to] = clip.frames_T[take], clip.detected_T[take], example.speech_T[take]
    return {"frames_BT": frames_T, "detected_BT": detected_T, "speech_BT": speech_T & frames_T}


def stack_classes(labels: list[int], frames: int) -> np.ndarray:
    """Class ids as int32 [N]; a class has no frame axis."""
    del frames
    return np.array(labels, np.int32)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    """An example without its clip; `ref`, `first` and `length` tell where its landmarks come from."""

    name: str
    label: Any
    masks: dict[str, np.ndarray]
    number: int
    ref: ClipRef | None
    first: int
    length: int


class Assembler:
    """Collects examples, split by split, in the smallest buckets that hold them and in their order.

    Landmarks are kept up to `limit` bytes over all splits; beyond that none are, and the splits are streamed.
    """

    def __init__(
        self,
        buckets: tuple[int, ...],
        stack_labels: StackLabels,
        limit: float,
        batch_class: type[FaceBatch] = FaceBatch,
    ):
        self.buckets, self.stack_labels, self.limit = buckets, stack_labels, limit
        self.batch_class = batch_class
        self.bytes = 0
        self.rows: dict[str, dict[int, list[_Row]]] = collections.defaultdict(lambda: collections.defaultdict(list))
        self.landmarks: dict[tuple[str, int], list[np.ndarray]] = collections.defaultdict(list)

    @property
    def streamed(self) -> bool:
        return self.bytes > self.limit

    def add(self, split: str, example: Example, ref: ClipRef | None = None) -> None:
        """Takes in an example of the clip that `ref` finds again. Raises UserError if no bucket holds it."""
        frames = bucket_of(example.length, self.buckets)
        if frames is None:
            raise UserError(
                f"{example.name} has {example.length} frames; the longest of data.buckets is {max(self.buckets)}."
            )
        clip = example.clip
        self.rows[split][frames].append(
            _Row(
                name=example.name,
                label=example.label,
                masks=cut_masks(example, frames),
                number=clip.number,
                ref=ref,
                first=example.first,
                length=example.length,
            )
        )
        self.bytes += frames * clip.landmarks_TVC[0].nbytes
        if self.streamed:
            self.landmarks.clear()
        else:
            self.landmarks[split, frames].append(cut_landmarks(clip, example.first, example.length, frames))

    def count(self, split: str) -> int:
        return sum(len(rows) for rows in self.rows[split].values())

    def split(self, split: str, config: ClipData | None = None) -> Split:
        """The split's arrays; `config` reads clips again where they are streamed."""
        batches, names, speakers, origins = [], [], [], []
        for frames, unordered in sorted(self.rows[split].items()):
            order = sorted(range(len(unordered)), key=lambda n: unordered[n].number)
            rows = [unordered[n] for n in order]
            kept = None if self.streamed else self.landmarks.pop((split, frames))
            batches.append(
                self.batch_class(
                    landmarks_BTVC=None if kept is None else np.stack([kept[n] for n in order]),
                    **{key: np.stack([row.masks[key] for row in rows]) for key in rows[0].masks},
                    target=self.stack_labels([row.label for row in rows], frames),
                    examples_B=np.ones(len(rows), bool),
                )
            )
            names.append(tuple(row.name for row in rows))
            speakers.append(tuple(row.ref.speaker if row.ref else "" for row in rows))
            origins.append([(row.ref, row.first, row.length) for row in rows])
        known = {"names": tuple(names), "speakers": tuple(speakers)}
        if not self.streamed:
            return Split(buckets=tuple(batches), **known)
        assert config is not None, "only clips of a source can be streamed"
        return StreamedSplit(buckets=tuple(batches), **known, read=_Reader(config, origins))


class _Reader:
    """Reads the landmarks of rows from their source, exactly as they were first read."""

    def __init__(self, config: ClipData, origins: list[list[tuple[Any, int, int]]]):
        self.config, self.origins = config, origins

    def __call__(self, bucket: int, row: int, frames: int) -> np.ndarray:
        """f32 [frames, V, 3]. Raises UserError if the clip cannot be read as it could before."""
        ref, first, length = self.origins[bucket][row]
        try:
            clip = self.config.load(ref)
        except DamagedClip as damage:
            clip = str(damage)
        if isinstance(clip, str):
            raise UserError(f"{ref.name} could be read when training began, and no longer can ({clip}).")
        return cut_landmarks(clip, first, length, frames)


def assemble(examples: Iterable[Example], buckets: tuple[int, ...], stack_labels: StackLabels = stack_classes) -> Split:
    """Stacks examples into the smallest buckets that hold them, in their order. Raises UserError if one fits none."""
    assembler = Assembler(buckets, stack_labels, limit=np.inf)
    for example in examples:
        assembler.add("", example)
    return assembler.split("")


def resident_bytes(config: ClipData) -> float:
    """How many bytes of landmarks may stay in device memory."""
    if config.resident_gib is not None:
        return config.resident_gib * 2**30
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2
