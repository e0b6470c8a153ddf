"""Reading while a picture comes after the other: landmarks of the last few seconds, read again and again.

The face is followed in the caller's thread; the model reads in another, one window at a time, so that a slow reading
delays the next reading and not the pictures.
"""

import collections
import concurrent.futures
import dataclasses
import pathlib
import time
from collections.abc import Iterator

import numpy as np

from jaxlip.data.clips import LANDMARKS, DamagedClip
from jaxlip.data.landmarker import Face
from jaxlip.data.tracking import FaceTracker
from jaxlip.predict.camera import Camera, Picture
from jaxlip.predict.reader import Reader
from jaxlip.predict.recording import Recording
from jaxlip.tasks.answer import Answer

# Fewer frames have no rate.
FEWEST = 2
_LIVE = pathlib.Path("live")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read in the window of frames that ends at `time` (seconds since the first picture).

    `answer` is None where there was too little of a face, and `reason` says so; `latency` is how many seconds after its
    last picture had been `taken` the reading was given out.
    """

    time: float
    taken: float
    answer: Answer | None
    reason: str = ""
    latency: float = 0.0


class Window:
    """Landmarks of the last `seconds`, as they come."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._frames: collections.deque[tuple[float, np.ndarray | None]] = collections.deque()
        self._size = (1, 1)

    def add(self, picture: Picture, face: Face | None) -> None:
        self._size = (picture.image.shape[1], picture.image.shape[0])
        self._frames.append((picture.time, None if face is None else face.points_VC))
        while picture.time - self._frames[0][0] > self._seconds + 1e-3:
            self._frames.popleft()

    def recording(self) -> Recording | None:
        """The window as a recording that begins at its first frame; None while there is next to nothing in it."""
        if len(self._frames) < FEWEST:
            return None
        times_T = np.array([t for t, _ in self._frames])
        nothing_VC = np.full((LANDMARKS, 3), np.nan, np.float32)
        return Recording(
            path=_LIVE,
            landmarks=np.stack([nothing_VC if points is None else points for _, points in self._frames]),
            detected=np.array([points is not None for _, points in self._frames]),
            times=times_T - times_T[0],
            size=self._size,
            fps=(len(times_T) - 1) / float(times_T[-1] - times_T[0]),
        )


def live(camera: Camera, tracker: FaceTracker, reader: Reader, *, every: float) -> Iterator[Reading | Picture]:
    """Yields each picture when its face has been looked for, and each reading when it is there.

    A window is read `every` so many seconds, or as soon after as the reading before is done; the last pictures of a
    source that ends are read too.
    """
    window = Window((reader.window - 1) / reader.fps)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending: concurrent.futures.Future[Reading | None] | None = None
        picture, last, milliseconds = None, -every, -1
        for picture in camera.pictures():
            milliseconds = max(round(picture.time * 1000), milliseconds + 1)
            window.add(picture, tracker.read(picture.image, milliseconds))
            yield picture
            if pending is not None and pending.done():
                yield from _some(pending.result())
                pending = None
            if pending is None and picture.time - last >= every:
                last = picture.time
                pending = pool.submit(_read, reader, window.recording(), picture)
        if pending is not None:
            yield from _some(pending.result())
        if picture is not None and picture.time > last:
            yield from _some(_read(reader, window.recording(), picture))


def _some(reading: Reading | None) -> Iterator[Reading]:
    if reading is not None:
        yield dataclasses.replace(reading, latency=time.perf_counter() - reading.taken)


def _read(reader: Reader, recording: Recording | None, newest: Picture) -> Reading | None:
    if recording is None:
        return None
    answer, reason = None, ""
    try:
        answer = reader.read_recording(recording)
    except DamagedClip as damage:
        reason = str(damage)
    return Reading(time=newest.time, taken=newest.taken, answer=answer, reason=reason)
