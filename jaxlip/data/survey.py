"""What a prepared corpus holds, and whether a score on it would be honest."""

import collections
import dataclasses
import hashlib
import math
import statistics
from collections.abc import Iterable
from typing import Any

from jaxlip.data.records import Entry
from jaxlip.data.sources.folders import SPLITS
from jaxlip.errors import UserError

SHOWN = 3
FEW_FACES = 0.7
"""Training leaves out clips with a face in a smaller part of their frames, unless data.min_detection says otherwise."""
ALLOWED = {
    "duplicates": "the same clip in several splits",
    "speakers": "speakers on both sides of a split that claims to be speaker-disjoint",
}
"""What makes a score dishonest, and is refused unless it is allowed by name."""


def some(names: Iterable[str]) -> str:
    """A few of the names, for a line that a person reads."""
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


@dataclasses.dataclass
class _Split:
    """Running totals of one split."""

    clips: int = 0
    frames: int = 0
    faces: int = 0
    seconds: float = 0.0
    untimed: int = 0
    lengths: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    words: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    speakers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """"" stands for those that the source does not know."""

    def add(self, entry: Entry) -> None:
        self.clips += 1
        self.frames += entry.frames
        self.faces += entry.faces
        self.seconds += entry.seconds
        self.untimed += entry.untimed
        self.lengths[entry.frames] += 1
        self.words.update(entry.words)
        self.speakers[entry.speaker] += 1

    def to_json(self) -> dict[str, Any]:
        lengths = sorted(self.lengths.elements())
        return {
            "clips": self.clips,
            "frames": self.frames,
            "frames_with_face": self.faces,
            "seconds": round(self.seconds, 3),
            "words": sum(self.words.values()),
            "words_without_times": self.untimed,
            "distinct_words": len(self.words),
            "speakers": len(self.speakers.keys() - {""}),
            "clip_frames": {"min": lengths[0], "median": statistics.median_low(lengths), "max": lengths[-1]},
        }


class Survey:
    """Gathers entries, in any order, into counts, statistics, checks and the fingerprint."""

    def __init__(self, vocabulary: tuple[str, ...], ids: tuple[int, ...]):
        self.vocabulary, self.ids = vocabulary, ids
        self.splits: dict[str, _Split] = {}
        self.left_out: dict[str, list[str]] = collections.defaultdict(list)
        self.findings: dict[str, list[str]] = collections.defaultdict(list)
        """Kind of defect -> names, of all but what only the whole corpus tells."""
        self._contents: list[str] = []
        self._seen: dict[bytes, tuple[str, str]] = {}
        self._twice: dict[bool, list[str]] = {True: [], False: []}
        """Pairs of equal clips, in the same split or not."""
        self._rounding = [0.0, 0.0, 0.0]
        self._jitter = [0.0, 0.0]
        self._interocular = 0.0

    def leave_out(self, name: str, reason: str) -> None:
        self.left_out[reason].append(name)

    def add(self, entry: Entry) -> None:
        if entry.split not in SPLITS:
            raise UserError(f"clip {entry.name}: split {entry.split!r} is none of {', '.join(SPLITS)}.")
        self.splits.setdefault(entry.split, _Split()).add(entry)
        self._contents.append(entry.content)
        name, split = self._seen.setdefault(bytes.fromhex(entry.face), (entry.name, entry.split))
        if name != entry.name:
            self._twice[split == entry.split].append(f"{name} ({split}) = {entry.name} ({entry.split})")
        self._find("words_outside_of_clip", entry, entry.outside > 0)
        self._find("few_faces", entry, entry.faces < FEW_FACES * entry.frames)
        self._find("faces_with_nan_landmarks", entry, entry.broken > 0)
        self._find("no_words", entry, not entry.words)
        self._rounding = [max(self._rounding[0], entry.rounding[0])] + [
            a + b for a, b in zip(self._rounding[1:], entry.rounding[1:], strict=True)
        ]
        self._jitter = [a + b for a, b in zip(self._jitter, entry.jitter, strict=True)]
        self._interocular += entry.interocular

    def _find(self, kind: str, entry: Entry, wrong: bool) -> None:
        if wrong:
            self.findings[kind].append(entry.name)

    @property
    def clips(self) -> int:
        return len(self._contents)

    def fingerprint(self) -> str:
        """sha256 of the contents of all clips, the points and the vocabulary: the same for every order of clips."""
        digest = hashlib.sha256(repr((self.ids, self.vocabulary)).encode())
        for content in sorted(self._contents):
            digest.update(content.encode())
        return digest.hexdigest()[:32]

    def checks(self) -> dict[str, list[str]]:
        """Everything that is odd: kind -> names or descriptions, only where there are any."""
        train = self.splits.get("train", _Split())
        labels = collections.Counter[str]()
        for part in self.splits.values():
            labels.update(part.words)
        found = {
            "duplicates_across_splits": sorted(self._twice[False]),
            "duplicates_within_a_split": sorted(self._twice[True]),
            "speakers_in_several_splits": self.shared_speakers(),
            "classes_without_training_clips": [word for word in self.vocabulary if not train.words[word]],
            "labels_outside_the_vocabulary": sorted(labels.keys() - set(self.vocabulary)),
            **{kind: sorted(names) for kind, names in self.findings.items()},
        }
        return {kind: names for kind, names in found.items() if names}

    def shared_speakers(self) -> list[str]:
        """Speakers of more than one split."""
        count = collections.Counter(speaker for part in self.splits.values() for speaker in part.speakers if speaker)
        return sorted(speaker for speaker, splits in count.items() if splits > 1)

    def refuse(self, *, disjoint: bool, allowed: tuple[str, ...]) -> None:
        """Raises UserError for what makes a score dishonest and is not allowed."""
        if self._twice[False] and "duplicates" not in allowed:
            raise UserError(
                f"{len(self._twice[False])} clips are in several splits, {some(sorted(self._twice[False]))}: scores "
                "would be of clips that were trained on. Take them out of all splits but one, or mark the shards with "
                "--allow duplicates."
            )
        if disjoint:
            refuse_shared_speakers({split: set(part.speakers) for split, part in self.splits.items()}, allowed)

    def statistics(self) -> dict[str, Any]:
        """The splits, the rounding of landmarks beside their jitter, and how often words occur in training."""
        counts = sorted(self.splits["train"].words.values()) if "train" in self.splits else []
        size, (worst, square, count) = self._interocular / max(self.clips, 1), self._rounding
        rounding, jitter = _root(square, count), _root(*self._jitter)
        return {
            "splits": {split: self.splits[split].to_json() for split in SPLITS if split in self.splits},
            "words_in_training": {
                "classes": len(counts),
                "min": counts[0] if counts else 0,
                "median": statistics.median(counts) if counts else 0,
                "max": counts[-1] if counts else 0,
            },
            "interocular_pixels": _digits(size),
            "rounding": {
                "rms_pixels": _digits(rounding),
                "max_pixels": _digits(worst),
                "rms_interocular": _digits(rounding / size if size else 0.0),
                "max_interocular": _digits(worst / size if size else 0.0),
            },
            "jitter": {
                "rms_pixels": _digits(jitter),
                "rms_interocular": _digits(jitter / size if size else 0.0),
                "how": "second differences of eye corners and nose bridge over the root of 6",
            },
        }


def _root(square: float, count: float) -> float:
    return math.sqrt(square / count) if count else 0.0


def _digits(value: float) -> float:
    """Six digits: the last ones of a sum change from one computation of it to the next."""
    return float(f"{value:.6g}")


def refuse_shared_speakers(speakers: dict[str, set[str]], allowed: tuple[str, ...]) -> None:
    """Raises UserError where splits that claim to be speaker-disjoint are not, or nobody knows."""
    count = collections.Counter(speaker for known in speakers.values() for speaker in known - {""})
    shared = sorted(speaker for speaker, splits in count.items() if splits > 1)
    if "speakers" in allowed:
        return
    if shared:
        raise UserError(
            f"--speaker-disjoint: {len(shared)} speakers are in several splits ({some(shared)}). Split by speaker, "
            "leave the option out, or mark the shards with --allow speakers."
        )
    unknown = sorted(split for split, known in speakers.items() if "" in known or not known)
    if unknown:
        raise UserError(
            f"--speaker-disjoint: the source does not say who speaks in some clips of {', '.join(unknown)}; leave the "
            "option out, or mark the shards with --allow speakers."
        )


def describe_survey(survey: Survey) -> list[str]:
    """The printed summary."""
    figures = survey.statistics()
    lines = []
    for split, part in figures["splits"].items():
        faces = part["frames_with_face"] / part["frames"]
        lines.append(
            f"{split:5s} {part['clips']:7,d} clips  {part['seconds'] / 3600:8.2f} h  {part['words']:8,d} words  "
            f"{part['distinct_words']:6,d} distinct  {part['speakers']:4d} speakers  a face in {faces:.1%} of frames"
        )
    rounding, jitter = figures["rounding"], figures["jitter"]
    lines.append(
        f"rounding of landmarks: {rounding['rms_pixels']:.5f} px rms, {rounding['max_pixels']:.5f} px at most "
        f"({rounding['rms_interocular']:.1e} and {rounding['max_interocular']:.1e} inter-ocular distances); "
        f"jitter of still points: {jitter['rms_pixels']:.3f} px rms"
    )
    lines += [f"left out {len(names):,} ({some(names)}): {reason}" for reason, names in survey.left_out.items()]
    lines += [f"{kind.replace('_', ' ')}: {len(names):,} ({some(names)})" for kind, names in survey.checks().items()]
    return lines
