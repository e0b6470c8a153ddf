"""One video -> one `.npz` of raw landmarks, with a report of what was found in it.

Keys: `landmarks` f32 [T, 478, 3] image-normalised (NaN where no face), `detected` bool [T], `fps` f32, `size` i64
(width, height) in pixels of the upright picture; and beside this contract `times` f64 [T] in seconds, `key` (what the
file was made from), `report` (JSON), `thumbnail` (PNG), with --blendshapes `blendshapes` f32 [T, 52] and with --pose
`pose` f32 [T, 4, 4], MediaPipe's canonical face to camera.
"""

import array
import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxlip.data import quality
from jaxlip.data.clips import DamagedClip
from jaxlip.data.landmarker import BLENDSHAPES, MODEL_SHA256, Detector, Face
from jaxlip.data.picture_damage import PictureCheck
from jaxlip.data.recording import Spool, landmark_spool, read_report, write_npz
from jaxlip.data.thumbnail import Candidate
from jaxlip.data.timing import describe, resample
from jaxlip.data.tracking import FaceChoice, FaceTracker
from jaxlip.data.video import DEFAULT_RATE, Frame, Video
from jaxlip.errors import UserError

# Part of the content key: another number makes every file again.
VERSION = 1
MIN_DETECTION = 0.7
CHUNK = 64
SAY_EVERY = 25

Progress = Callable[[int, float], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extraction:
    """How videos are read."""

    fps: float | None = None
    """Frames a second to resample to, by the nearest frame in time; None keeps every frame."""
    face: str = "largest"
    """The face that is followed: largest, center, or a number from 1, counted from the left."""
    blendshapes: bool = False
    """Also write MediaPipe's 52 blendshapes."""
    pose: bool = False
    """Also write MediaPipe's 4 x 4 head pose."""

    def __post_init__(self):
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UserError(f"--fps {self.fps:g} is not in (0, 1000].")
        FaceChoice(self.face)


class Extractor:
    """Reads videos one after another, with a model that is loaded when the first of them needs it."""

    def __init__(self, options: Extraction, model: pathlib.Path):
        self.options, self._model_path = options, model

    def __enter__(self) -> "Extractor":
        return self

    def __exit__(self, *_: object) -> None:
        # MediaPipe's objects wait for ever if it is the garbage collector that closes them.
        if "_detector" in self.__dict__:
            self._detector.close()

    @functools.cached_property
    def _model(self) -> bytes:
        return self._model_path.read_bytes()

    @functools.cached_property
    def _detector(self) -> Detector:
        return Detector(self._model)

    def extract(self, source: pathlib.Path, target: pathlib.Path, progress: Progress = lambda *_: None) -> dict:
        """Writes `target` unless it is there already from the same video, options and model; returns its report.

        `progress` is called with frames read since its last call, and the part of the file that is read. Raises
        DamagedClip if there is nothing to write, and OSError if it cannot be written.
        """
        key = content_key(source, self.options)
        if report := read_report(target, key):
            return report | {"skipped": True}
        with self._reading(source, target.parent, progress) as clip:
            report = clip.report()
            write_npz(target, clip.arrays(report, key))
        return report | {"skipped": False}

    def read(self, source: pathlib.Path) -> tuple[dict, dict[str, np.ndarray]]:
        """The report and the arrays of a video's file, without writing one. Raises DamagedClip."""
        with self._reading(source, pathlib.Path(tempfile.gettempdir()), lambda *_: None) as clip:
            report = clip.report()
            arrays = clip.arrays(report, key="")
            return report, {
                name: array.chunk(0, array.rows) if isinstance(array, Spool) else array
                for name, array in arrays.items()
            }

    @contextlib.contextmanager
    def _reading(self, source: pathlib.Path, folder: pathlib.Path, progress: Progress) -> Iterator["_Clip"]:
        """A video that has been read to its end; `folder`, which is made, is for what does not fit into memory."""
        choice = FaceChoice(self.options.face)
        extras = {"blendshapes": self.options.blendshapes, "pose": self.options.pose}
        with contextlib.ExitStack() as stack:
            video = stack.enter_context(Video(source))
            folder.mkdir(parents=True, exist_ok=True)
            tracker = stack.enter_context(FaceTracker(self._model, self._detector, choice, **extras))
            clip = stack.enter_context(contextlib.closing(_Clip(video, tracker, self.options, folder)))
            clip.read(progress)
            yield clip


def content_key(source: pathlib.Path, options: Extraction) -> str:
    """What decides a file's content: the video's bytes, the options, the model, and this code's version."""
    with source.open("rb") as file:
        video = hashlib.file_digest(file, "sha256").hexdigest()
    made_of = [VERSION, MODEL_SHA256, video, dataclasses.asdict(options)]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


class _Clip:
    """What is collected while one video goes by: rows on the disk, a few numbers a frame in memory."""

    def __init__(self, video: Video, tracker: FaceTracker, options: Extraction, folder: pathlib.Path):
        self.video, self.tracker, self.options = video, tracker, options
        self.decoded_times, self.times = array.array("d"), array.array("d")
        self.detected, self.looks_damaged = array.array("B"), array.array("B")
        self.spools: dict[str, Spool] = {}
        self.spools["landmarks"] = landmark_spool(folder)
        if options.blendshapes:
            self.spools["blendshapes"] = Spool(folder, (BLENDSHAPES,))
        if options.pose:
            self.spools["pose"] = Spool(folder, (4, 4))
        frames = video.declared_frames or int(2 * DEFAULT_RATE)
        self.thumbnail = Candidate(frames // 2)

    def close(self) -> None:
        for spool in self.spools.values():
            spool.close()

    def read(self, progress: Progress) -> None:
        """Reads the video to its end. Raises DamagedClip if it has no frame."""
        frames = self._decoded()
        if self.options.fps:
            frames = resample(frames, self.options.fps)
        check = PictureCheck()
        milliseconds = -1
        said = 0
        for frame in frames:
            milliseconds = max(round(frame.time * 1000), milliseconds + 1)
            face = self.tracker.read(frame.image, milliseconds)
            self._add(frame, face, check.look(frame.image, frame.key))
            if len(self.times) - said == SAY_EVERY:
                progress(SAY_EVERY, self.video.position)
                said = len(self.times)
        progress(len(self.times) - said, 1.0)
        if not self.times:
            damage = self.video.damage
            why = "; ".join(filter(None, [damage.ended_early, *damage.messages])) or "the stream is empty"
            raise DamagedClip(f"no frame can be decoded ({why})")

    def _decoded(self) -> Iterator[Frame]:
        for frame in self.video.frames():
            self.decoded_times.append(frame.time)
            yield frame

    def _add(self, frame: Frame, face: Face | None, looks_damaged: bool) -> None:
        self.thumbnail.offer(len(self.times), frame.image, face)
        self.times.append(frame.time)
        self.detected.append(face is not None)
        self.looks_damaged.append(looks_damaged)
        self.spools["landmarks"].append(face and face.points_VC)
        if self.options.blendshapes:
            self.spools["blendshapes"].append(face and face.blendshapes)
        if self.options.pose:
            self.spools["pose"].append(face and face.pose)

    def arrays(self, report: dict[str, Any], key: str) -> dict[str, np.ndarray | Spool]:
        return {
            **self.spools,
            "detected": np.array(self.detected, bool),
            "fps": np.float32(report["fps"]),  # type: ignore[dict-item]
            "size": np.array(self.video.size, np.int64),
            "times": np.array(self.times),
            "key": np.array(key),
            "report": np.array(json.dumps(report)),
            "thumbnail": np.frombuffer(self.thumbnail.png(), np.uint8),
        }

    def report(self) -> dict[str, Any]:
        """What the report of a batch says about this clip; JSON."""
        detected_T = np.array(self.detected, bool)
        timing = describe(np.array(self.decoded_times), self.video.declared_rate, self.video.declared_frames)
        measures_TD, outside = self._measure(detected_T)
        detection = float(detected_T.mean())
        return {
            "status": "ok" if detection >= MIN_DETECTION else "rejected",
            "reason": "" if detection >= MIN_DETECTION else _rejection(detection, self.options.face),
            "frames": len(self.times),
            "detected": int(detected_T.sum()),
            "detection": round(detection, 4),
            "undetected_frames": ranges(np.flatnonzero(~detected_T)),
            "fps": self.options.fps or timing["fps"],
            "size": list(self.video.size),
            "seconds": round(self.times[-1] + 1 / timing["fps"], 3),
            "codec": f"{self.video.codec}, {self.video.pixel_format}",
            "timing": timing | {"declared_frames": self.video.declared_frames},
            "damage": self._damage(timing["missing_frames"]),
            "faces": {"most_seen": self.tracker.most_faces, "frames_read_from_cut_out": self.tracker.frames_cut_out},
            "measures": quality.summarize(measures_TD),
            "histograms": quality.histograms(measures_TD),
            "frames_leaving_picture": outside,
            "notes": self._notes(timing, outside),
        }

    def _measure(self, detected_T: np.ndarray) -> tuple[np.ndarray, int]:
        """Measures of the frames with a face, and in how many of them it leaves the picture; a chunk at a time."""
        measures, outside = [np.zeros((0, len(quality.MEASURES)))], 0
        for start in range(0, len(detected_T), CHUNK):
            stop = min(start + CHUNK, len(detected_T))
            landmarks_TVC = self.spools["landmarks"].chunk(start, stop)[detected_T[start:stop]]
            if len(landmarks_TVC):
                measures.append(quality.measure(landmarks_TVC, self.video.size))
                outside += int(quality.leaves_picture(landmarks_TVC).sum())
        return np.concatenate(measures), outside

    def _damage(self, missing: int) -> dict[str, Any]:
        damage = self.video.damage
        frames = set(damage.error_frames) | set(damage.corrupt_frames) | {*np.flatnonzero(self.looks_damaged).tolist()}
        return {
            "damaged_frames": len(frames),
            "missing_frames": missing,
            "undecodable_packets": damage.undecodable_packets,
            "decode_errors": ranges(damage.error_frames),
            "marked_corrupt": ranges(damage.corrupt_frames),
            "looks_damaged": ranges(np.flatnonzero(self.looks_damaged)),
            "untimed_frames": damage.untimed_frames,
            "backward_times": damage.backward_times,
            "ended_early": damage.ended_early,
            "messages": damage.messages,
        }

    def _notes(self, timing: dict[str, Any], outside: int) -> list[str]:
        """What is unusual about this video though it was read; one line each."""
        notes = []
        if timing["variable"] and not self.options.fps:
            between = f"{timing['shortest_ms']:g} to {timing['longest_ms']:g} ms"
            notes.append(f"variable frame rate ({between}); --fps 25 makes it constant")
        if self.tracker.most_faces > 1:
            notes.append(f"{self.tracker.most_faces} faces; followed: {self.options.face}")
        if self.video.rotation:
            notes.append(f"shown rotated: {self.video.rotation}")
        if abs(self.video.pixel_aspect - 1) > 0.01:
            notes.append(f"pixels are not square ({self.video.pixel_aspect:.3f}): shapes are stretched by that")
        if self.video.resized:
            notes.append("the picture changes its size; every frame was brought to that of the first")
        if outside:
            notes.append(f"the face reaches over the edge of the picture in {outside} frames")
        return notes


def _rejection(detection: float, face: str) -> str:
    if not detection:
        return "no face found" if not face.isdecimal() else f"no face number {face} found"
    return f"a face in {detection:.0%} of its frames, under {MIN_DETECTION:.0%}"


def ranges(numbers: Any) -> str:
    """Sorted frame numbers as text: `0-26, 29`."""
    numbers = sorted({int(n) for n in numbers})
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in runs)
