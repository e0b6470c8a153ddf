"""One pass over a source that gathers what a careful person looks at before training on it."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np

from jaxlip.data import quality
from jaxlip.data.assemble import cut_landmarks, cut_masks
from jaxlip.data.class_means import LIPS, ClassMeans
from jaxlip.data.clips import Clip
from jaxlip.data.face import SPLITS, Example, FaceClip, FaceData, Rejections, prepare
from jaxlip.data.feature_check import FeatureCheck, check_features
from jaxlip.data.near_duplicates import Pair, near_duplicates, signature
from jaxlip.data.sources import SOURCES
from jaxlip.data.steadiness import Steadiness, steadiness
from jaxlip.data.words import word_examples
from jaxlip.errors import UserError
from jaxlip.face.features import stored_ids

FEATURE_EXAMPLES = 512
SHEET_CLIPS = 8
TROUBLE = 0.1
Item = TypeVar("Item")


class Sample(Generic[Item]):
    """At most `size` of the items that go by, at even distances; the same for the same items."""

    def __init__(self, size: int):
        self.items: list[Item] = []
        self._size, self._every, self._seen = size, 1, 0

    def offer(self, item: Item) -> None:
        if self._seen % self._every == 0:
            self.items.append(item)
        if len(self.items) > self._size:
            self.items = self.items[::2]
            self._every *= 2
        self._seen += 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClipRow:
    """What is known of one clip, whether it is used (no `reason`) or left out."""

    name: str
    split: str
    speaker: str
    reason: str
    seconds: float
    fps: float
    size: tuple[int, int]
    words: tuple[str, ...]
    word_frames: tuple[float, ...]
    masked: int
    """Frames in gaps too long to be filled."""
    steadiness: Steadiness
    content: str
    """Hash of the landmarks."""

    @property
    def frames(self) -> int:
        return len(self.steadiness.seen_T)

    @property
    def detection(self) -> float:
        return float(self.steadiness.seen_T.mean())

    def median(self, measure: str) -> float | None:
        """Median of one of `quality.MEASURES` over the frames with a face."""
        values_T = self.steadiness.measures_TD[:, quality.MEASURES.index(measure)]
        return float(np.median(values_T)) if len(values_T) else None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """All that was seen. Words are counted as training takes them: with a usable frame, and in the vocabulary."""

    config: FaceData
    vocabulary: tuple[str, ...]
    notes: tuple[str, ...]
    clips: tuple[ClipRow, ...]
    left_out: dict[str, list[str]]
    """Reason -> clips and words."""
    words: dict[str, collections.Counter[str]]
    """Split -> word -> examples."""
    class_split: str
    """The split that class means and features are taken from: train where there is one."""
    class_means: ClassMeans
    features: FeatureCheck | None
    """None where no clip can be used."""
    duplicates: tuple[Pair, ...]
    sheets: dict[str, list[FaceClip]]
    """Split -> some of its clips."""
    worst: list[FaceClip]
    """Clips in use whose landmarks are the worst, if there are bad ones."""

    @property
    def used(self) -> list[ClipRow]:
        return [clip for clip in self.clips if not clip.reason]

    def by_split(self) -> dict[str, list[ClipRow]]:
        """Clips in use by split, the splits in order."""
        groups: dict[str, list[ClipRow]] = {}
        for clip in self.used:
            groups.setdefault(clip.split, []).append(clip)
        return {split: groups[split] for split in sorted(groups, key=in_order)}


class _Gathered:
    """What the pass has collected so far."""

    def __init__(self, config: FaceData):
        self.config, self.vocabulary = config, config.vocabulary()
        self.class_of = {word: k for k, word in enumerate(self.vocabulary)}
        ids = stored_ids(config.preset)
        self.lip_rows = [ids.index(point) for point in LIPS]
        self.rejections = Rejections()
        self.clips: list[ClipRow] = []
        self.words: dict[str, collections.Counter[str]] = {}
        self.means: dict[str, ClassMeans] = {}
        self.samples: dict[str, Sample[dict[str, np.ndarray]]] = {}
        self.sheets: dict[str, Sample[FaceClip]] = {}
        self.worst: list[tuple[float, FaceClip]] = []
        self.signatures: list[np.ndarray] = []

    def add(self, clip: Clip) -> None:
        seen, prepared = steadiness(clip), prepare(clip, self.config)
        reason = prepared if isinstance(prepared, str) else ""
        self.clips.append(_row(clip, seen, reason, 0 if isinstance(prepared, str) else int((~prepared.frames_T).sum())))
        if isinstance(prepared, str):
            self.rejections.add(clip.name, prepared)
            return
        self.words.setdefault(clip.split, collections.Counter())
        self.sheets.setdefault(clip.split, Sample(SHEET_CLIPS)).offer(prepared)
        if (trouble := _trouble(seen)) > TROUBLE:
            self.worst = sorted([*self.worst, (trouble, prepared)], key=lambda pair: -pair[0])[:SHEET_CLIPS]
        self.signatures.append(signature(prepared.landmarks_TVC[:, self.lip_rows]))
        sample = self.samples.setdefault(clip.split, Sample(FEATURE_EXAMPLES))
        for example in self._examples(prepared):
            window = self.config.window
            landmarks_TVC = cut_landmarks(prepared, example.first, example.length, window)
            arrays = {"landmarks_BTVC": landmarks_TVC, **cut_masks(example, window)}
            sample.offer(arrays)
            if example.label is not None:
                self._count(clip.split, self.vocabulary[example.label], arrays)

    def _examples(self, clip: FaceClip) -> Iterator[Example]:
        """The windows that a word reader sees; of a source without words, the whole clip in windows."""
        if self.vocabulary:
            window, centred = self.config.window, self.config.centred
            yield from word_examples(clip, self.class_of, window, self.rejections, centred=centred)
            return
        for first in range(0, len(clip.frames_T), self.config.window):
            speech_T, length = clip.detected_T, self.config.window
            yield Example(clip=clip, name=clip.name, first=first, length=length, speech_T=speech_T, label=None)

    def _count(self, split: str, word: str, arrays: dict[str, np.ndarray]) -> None:
        self.words[split][word] += 1
        lips_TVC = arrays["landmarks_BTVC"][:, self.lip_rows]
        means = self.means.setdefault(split, ClassMeans(self.config.window))
        means.add(word, lips_TVC, arrays["frames_BT"], arrays["speech_BT"])

    def _duplicates(self, used: list[ClipRow]) -> list[Pair]:
        rows = sorted(range(len(used)), key=lambda row: in_order(used[row].split))
        signatures = np.stack([self.signatures[row] for row in rows]) if rows else np.zeros((0, 1))
        return near_duplicates([used[row].name for row in rows], signatures, [used[row].split for row in rows])

    def finish(self) -> Inspection:
        used = [clip for clip in self.clips if not clip.reason]
        splits = [clip.split for clip in used]
        main = "train" if "train" in splits or not splits else max(splits, key=splits.count)
        cuts = [arrays for arrays in self.samples[main].items if arrays["frames_BT"].any()] if used else []
        return Inspection(
            config=self.config,
            vocabulary=self.vocabulary,
            notes=tuple(SOURCES[self.config.source].notes(self.config)),
            clips=tuple(self.clips),
            left_out=dict(self.rejections.names),
            words=self.words,
            class_split=main,
            class_means=self.means.get(main, ClassMeans(self.config.window)),
            features=check_features(cuts, self.config) if cuts else None,
            duplicates=tuple(self._duplicates(used)),
            sheets={split: sample.items for split, sample in self.sheets.items()},
            worst=[clip for _, clip in self.worst],
        )


def _trouble(seen: Steadiness) -> float:
    """Part of the frames that are lost, repeated or not finite; a jump counts as a tenth, jitter by its size."""
    return float(np.mean(~seen.seen_T)) + seen.still / len(seen.seen_T) + len(seen.jumps) / 10 + 10 * (seen.jitter or 0)


def in_order(split: str) -> tuple[int, str]:
    """Sort key of splits: training, validation, test, then whatever else there is."""
    return SPLITS.index(split) if split in SPLITS else len(SPLITS), split


def _row(clip: Clip, seen: Steadiness, reason: str, masked: int) -> ClipRow:
    return ClipRow(
        name=clip.name,
        split=clip.split,
        speaker=clip.speaker,
        reason=reason,
        seconds=len(clip.landmarks) / clip.fps,
        fps=float(clip.fps),
        size=clip.size,
        words=tuple(word.text for word in clip.words),
        word_frames=tuple(word.end - word.start for word in clip.words if word.timed),
        masked=masked,
        steadiness=seen,
        content=hashlib.sha256(np.ascontiguousarray(clip.landmarks).tobytes()).hexdigest(),
    )


def inspect(config: FaceData, on_clip: Callable[[], Any] = lambda: None) -> Inspection:
    """Reads every clip once; `on_clip` is called after each. Raises UserError where none can be read."""
    gathered = _Gathered(config)
    for ref, clip in config.clips():
        if isinstance(clip, str):
            gathered.rejections.add(ref.name, clip)
        else:
            gathered.add(clip)
        on_clip()
    if not gathered.clips:
        why = "; ".join(gathered.rejections.notes()) or "the source has none"
        raise UserError(f"data.source={config.source}: no clip can be read: {why}.")
    return gathered.finish()
