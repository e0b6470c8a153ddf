"""A clip as a record of integers: what shards hold, and how much of the landmarks is lost by that.

A record keeps the points of a preset and those that normalisation needs, as they came: image-normalised, without a
face where none was found. Gaps, normalisation and smoothing stay options of training. Each coordinate of a clip is
cut into 65,535 steps between its least and its greatest value in that clip.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlip.data.clips import FARTHEST, Clip, DamagedClip, SpokenWord
from jaxlip.face.features import stored_ids
from jaxlip.face.normalize import STABLE_IDS, rows_of

LEVELS = 65_535

Record = dict[str, Any]
"""name, number (its place in the source), speaker; landmarks u16 [T, V, 3] with origin and step f32 [3]; detected
bool [T]; fps; size i32 [2]; words: text, start and end in frames (NaN where unknown), one list each."""


def kept_ids(preset: str) -> tuple[int, ...]:
    """FaceMesh ids that a record of this preset keeps."""
    stored = stored_ids(preset)
    return stored + tuple(point for point in STABLE_IDS if point not in stored)


def encode(clip: Clip, ids: tuple[int, ...], number: int) -> Record:
    """The record of a clip, the `number`-th of its split.

    Raises DamagedClip for one that no option of training could use.
    """
    detected_T = clip.detected & np.isfinite(clip.landmarks).all(axis=(1, 2))
    if not detected_T.any():
        raise DamagedClip("no face in any frame")
    if np.abs(clip.landmarks[detected_T]).max() > FARTHEST:
        raise DamagedClip(f"landmarks lie more than {FARTHEST} picture widths away")
    kept_TVC = clip.landmarks[detected_T][:, rows_of(ids, clip.ids)].astype(np.float64)
    low_C, high_C = kept_TVC.min(axis=(0, 1)), kept_TVC.max(axis=(0, 1))
    origin_C = low_C.astype(np.float32)
    step_C = np.maximum((high_C - low_C) / LEVELS, np.finfo(np.float32).tiny).astype(np.float32)
    landmarks_TVC = np.zeros((len(detected_T), len(ids), 3), np.uint16)
    landmarks_TVC[detected_T] = np.rint((kept_TVC - origin_C) / step_C).clip(0, LEVELS)
    return {
        "name": clip.name,
        "number": number,
        "speaker": clip.speaker,
        "landmarks": landmarks_TVC,
        "origin": origin_C,
        "step": step_C,
        "detected": detected_T,
        "fps": float(clip.fps),
        "size": np.array(clip.size, np.int32),
        "words": {
            "text": [word.text for word in clip.words],
            "start": [float(word.start) for word in clip.words],
            "end": [float(word.end) for word in clip.words],
        },
    }


def decode(record: Record, *, split: str, ids: tuple[int, ...]) -> Clip:
    """The clip of a record, as it was but for the rounding of its landmarks."""
    landmarks_TVC = record["landmarks"].astype(np.float32) * record["step"] + record["origin"]
    landmarks_TVC[~record["detected"]] = np.nan
    words = record["words"]
    return Clip(
        name=_string(record["name"]),
        split=split,
        speaker=_string(record["speaker"]),
        landmarks=landmarks_TVC,
        detected=record["detected"],
        fps=float(record["fps"]),
        size=(int(record["size"][0]), int(record["size"][1])),
        words=tuple(
            SpokenWord(text=_string(text), start=float(start), end=float(end))
            for text, start, end in zip(words["text"], words["start"], words["end"], strict=True)
        ),
        ids=ids,
        number=int(record["number"]),
    )


def _string(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a record without opening it: for the manifest and its checks."""

    name: str
    split: str
    speaker: str
    frames: int
    faces: int
    """Frames with a face."""
    broken: int
    """Frames that are said to have one, and whose landmarks are not all numbers; they count as frames without."""
    seconds: float
    words: tuple[str, ...]
    untimed: int
    """Words whose times nobody knows."""
    outside: int
    """Words that begin before the clip or end after it, by more than a frame."""
    face: str
    """Hash of the landmarks alone: equal for a clip that is there twice."""
    content: str
    """Hash of the whole record but its number."""
    rounding: tuple[float, float, float]
    """Largest error of rounding in pixels, sum of its squares, and how many coordinates (x and y)."""
    jitter: tuple[float, float]
    """Of the points that hardly move in a head: sum of squares of their jitter in pixels, and of how many."""
    interocular: float
    """Mean distance of the eyes in pixels."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "Entry":
        fields = json.loads(line)
        for name in ("words", "rounding", "jitter"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


def describe(clip: Clip, record: Record, ids: tuple[int, ...]) -> Entry:
    """The entry of a clip and the record made of it."""
    frames, detected_T = len(record["detected"]), record["detected"]
    kept_TVC = clip.landmarks[detected_T][:, rows_of(ids, clip.ids)]
    back_TVC = decode(record, split=clip.split, ids=ids).landmarks[detected_T]
    error_TVC = (back_TVC.astype(np.float64) - kept_TVC)[..., :2] * clip.size
    timed = [word for word in clip.words if word.timed]
    face = _digest({name: record[name] for name in ("landmarks", "origin", "step", "detected")})
    return Entry(
        name=clip.name,
        split=clip.split,
        speaker=clip.speaker,
        frames=frames,
        faces=int(detected_T.sum()),
        broken=int(clip.detected.sum()) - int(detected_T.sum()),
        seconds=frames / clip.fps,
        words=tuple(word.text for word in clip.words),
        untimed=len(clip.words) - len(timed),
        outside=sum(word.start < -1 or word.end > frames + 1 for word in timed),
        face=face,
        content=_digest({**{k: v for k, v in record.items() if k != "number"}, "split": clip.split}),
        rounding=(float(np.abs(error_TVC).max()), float((error_TVC**2).sum()), float(error_TVC.size)),
        jitter=_jitter(clip, detected_T),
        interocular=_interocular(clip, detected_T),
    )


def _digest(fields: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(fields):
        value = fields[name]
        digest.update(name.encode())
        if isinstance(value, np.ndarray):
            digest.update(f"{value.shape}{value.dtype}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        else:
            digest.update(json.dumps(value).encode())
    return digest.hexdigest()[:32]


def _stable(clip: Clip) -> np.ndarray:
    """The stable points in pixels [T, 6, 2]."""
    return clip.landmarks[:, rows_of(STABLE_IDS, clip.ids), :2].astype(np.float64) * clip.size


def _jitter(clip: Clip, detected_T: np.ndarray) -> tuple[float, float]:
    """Sum of squares and count of second differences over 6, the variance of white noise that explains them."""
    whole_T = detected_T[2:] & detected_T[1:-1] & detected_T[:-2]
    second_TVC = np.diff(_stable(clip), n=2, axis=0)[whole_T]
    return float((second_TVC**2).sum() / 6), float(second_TVC.size)


def _interocular(clip: Clip, detected_T: np.ndarray) -> float:
    right_TVC, left_TVC = np.split(_stable(clip)[detected_T][:, :4], 2, axis=1)
    return float(np.linalg.norm(right_TVC.mean(axis=1) - left_TVC.mean(axis=1), axis=-1).mean())
