"""Pictures as they come: from a camera, or from a file that is played in real time.

A thread takes every picture when it comes and keeps the newest; those that nobody fetched before the next came are
counted as dropped.
"""

import dataclasses
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxlip.data.clips import DamagedClip
from jaxlip.data.video import Video
from jaxlip.errors import UserError

# A camera that gives nothing for so long is taken to be gone.
PATIENCE = 10.0


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """uint8 [height, width, 3]; `time` in seconds since the first, `taken` when it came (time.perf_counter)."""

    image: np.ndarray
    time: float
    taken: float


class Camera:
    """The newest picture of a source. Raises UserError if the source cannot be opened, or fails later."""

    def __init__(self, source: str):
        self._pictures = _device(int(source)) if source.isdecimal() else _file(pathlib.Path(source))
        self._slot: Picture | None = None
        self._change = threading.Condition()
        self._closed = self._ended = False
        self._error: Exception | None = None
        self.taken = self.dropped = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        try:
            for picture in self._pictures:
                with self._change:
                    self.taken += 1
                    self.dropped += self._slot is not None
                    self._slot = picture
                    self._change.notify()
                if self._closed:
                    return
        # Whatever ends the thread is told to the one who waits for pictures.
        except Exception as error:
            self._error = error
        finally:
            with self._change:
                self._ended = True
                self._change.notify()

    def pictures(self) -> Iterator[Picture]:
        """Each time the newest picture that has not been given yet, until the source ends."""
        while True:
            with self._change:
                if not self._change.wait_for(lambda: self._slot is not None or self._ended, PATIENCE):
                    raise UserError(f"the source has given no picture for {PATIENCE:g} s.")
                picture, self._slot = self._slot, None
            if picture is None:
                if self._error is not None:
                    raise self._error
                return
            yield picture


def _file(path: pathlib.Path) -> Iterator[Picture]:
    """A video's frames, each at its time; decoding goes on in between."""
    if not path.is_file():
        raise UserError(f"--source {path} is no file, nor the number of a camera.")
    try:
        video = Video(path)
    except DamagedClip as damage:
        raise UserError(f"--source {path}: {damage}.") from None
    return _played(video)


def _played(video: Video) -> Iterator[Picture]:
    with video:
        start = None
        for frame in video.frames():
            image = frame.image
            start = time.perf_counter() - frame.time if start is None else start
            time.sleep(max(start + frame.time - time.perf_counter(), 0))
            yield Picture(image, frame.time, time.perf_counter())


def _device(number: int) -> Iterator[Picture]:
    """A camera of this machine, by number."""
    from jaxlip.data.landmarker import import_mediapipe

    # OpenCV comes with MediaPipe.
    import_mediapipe()
    import cv2  # pyright: ignore[reportMissingImports]

    capture: Any = cv2.VideoCapture(number)
    if not capture.isOpened():
        capture.release()
        raise UserError(f"--source {number}: there is no such camera, or another program has it.")
    return _filmed(capture)


def _filmed(capture: Any) -> Iterator[Picture]:
    import cv2  # pyright: ignore[reportMissingImports]

    start = None
    try:
        while True:
            given, image = capture.read()
            if not given:
                return
            now = time.perf_counter()
            start = now if start is None else start
            yield Picture(np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), now - start, now)
    finally:
        capture.release()
