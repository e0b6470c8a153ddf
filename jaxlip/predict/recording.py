"""What is to be read: a video, or the landmarks that were extracted from one, as raw landmarks with frame times."""

import dataclasses
import pathlib
import re

import numpy as np

from jaxlip.data.clips import Clip, DamagedClip, SpokenWord, read_raw_landmarks
from jaxlip.data.extract import Extractor
from jaxlip.data.retime import is_steady, retime
from jaxlip.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """Raw landmarks of every frame of a video (see jaxlip/data/clips.py), with the frames' times in seconds."""

    path: pathlib.Path
    landmarks: np.ndarray
    detected: np.ndarray
    times: np.ndarray
    size: tuple[int, int]
    fps: float
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return float(self.times[-1] - self.times[0]) + 1 / self.fps

    def at(self, fps: float) -> Clip:
        """The clip at a constant rate. Raises DamagedClip."""
        landmarks_TVC, detected_T = retime(self.landmarks, self.detected, self.times, fps)
        return Clip(
            name=self.path.stem, split="", landmarks=landmarks_TVC, detected=detected_T, fps=fps, size=self.size
        )

    def notes_at(self, fps: float) -> tuple[str, ...]:
        """What should be known of a reading at this rate."""
        if is_steady(self.times - self.times[0], fps):
            return self.notes
        return (*self.notes, f"{self.fps:.4g} frames a second, interpolated to the {fps:g} that the run knows")


def is_landmarks(path: pathlib.Path) -> bool:
    return path.suffix.lower() == ".npz"


def read_recording(path: pathlib.Path, extractor: Extractor) -> Recording:
    """Reads a video, or an `.npz` of `jaxlip extract`. Raises DamagedClip, also where no frame has a face."""
    if is_landmarks(path):
        recording = _from_landmarks(path)
    else:
        try:
            report, arrays = extractor.read(path)
        except OSError as error:
            raise DamagedClip(f"cannot be read: {error.strerror}") from None
        damage = report["damage"]["damaged_frames"]
        recording = Recording(
            path=path,
            landmarks=arrays["landmarks"],
            detected=arrays["detected"],
            times=arrays["times"],
            size=(report["size"][0], report["size"][1]),
            fps=report["fps"],
            notes=(*report["notes"], *([f"{damage} damaged frames"] if damage else [])),
        )
    if not recording.detected.any():
        raise DamagedClip("no face found")
    return recording


def _from_landmarks(path: pathlib.Path) -> Recording:
    raw = read_raw_landmarks(path)
    # The checks of a clip hold for a recording as well.
    Clip(name=path.stem, split="", **raw)
    with np.load(path) as file:
        times_T = file["times"].astype(np.float64) if "times" in file.files else None
    if times_T is None:
        times_T = np.arange(len(raw["landmarks"])) / raw["fps"]
    elif times_T.shape != raw["detected"].shape:
        raise DamagedClip(f"{len(raw['landmarks'])} frames of landmarks but {times_T.shape} of `times`")
    return Recording(path=path, times=times_T, **raw)


def spoken_span(path: pathlib.Path, given: tuple[float, float] | None, seconds: float) -> tuple[float, float] | None:
    """When the word is spoken, in seconds: as given, else as `<clip>.txt` beside the video says; None if nobody does.

    LRW's files have `Duration: s`, with the word in the middle of the clip; others `Start: s` and `End: s`. Raises
    UserError for a time that the video of so many `seconds` has not.
    """
    beside = path.with_suffix(".txt")
    span, origin = given, "--span"
    if span is None and beside.is_file():
        found = dict(re.findall(r"^\s*(Start|End|Duration)\s*:\s*([0-9.]+)", beside.read_text(errors="replace"), re.M))
        origin = str(beside)
        try:
            if {"Start", "End"} <= found.keys():
                span = float(found["Start"]), float(found["End"])
            elif "Duration" in found:
                half = float(found["Duration"]) / 2
                span = seconds / 2 - half, seconds / 2 + half
        except ValueError:
            raise UserError(f"{beside} has a time that is no number.") from None
    if span is not None and not (0 <= span[0] < span[1] and span[0] < seconds):
        raise UserError(
            f"{origin} {span[0]:g} to {span[1]:g} s is no stretch of {path.name}, which lasts {seconds:.2f} s."
        )
    return span


def as_frames(span: tuple[float, float], fps: float) -> SpokenWord:
    return SpokenWord(text="", start=span[0] * fps, end=span[1] * fps)
