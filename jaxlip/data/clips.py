"""One face clip as it comes from a source: raw landmarks, and which words are spoken when."""

import dataclasses
import math
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

LANDMARKS = 478
FACE_IDS = tuple(range(LANDMARKS))
"""Every point of the FaceMesh, in its order."""


FARTHEST = 10.0
"""Landmarks farther away than this, in widths and heights of the picture, are no face's."""


Affect = tuple[float, float] | np.ndarray
"""Valence and arousal of a clip, or f32 [T, 2] of its frames, NaN where nobody knows."""


class DamagedClip(Exception):
    """One clip cannot be used; the reason is counted and reported, the others go on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpokenWord:
    """A word and when it is spoken, in frames (fractions allowed); NaN where nobody knows."""

    text: str
    start: float = math.nan
    end: float = math.nan

    @property
    def timed(self) -> bool:
        """Whether it is known when the word is spoken."""
        return not (math.isnan(self.start) or math.isnan(self.end))

    def frames(self, length: int) -> np.ndarray:
        """Bool [length]: the frames from floor(start) up to ceil(end); none of them where the times are unknown."""
        frame_T = np.arange(length)
        if not self.timed:
            return np.zeros(length, bool)
        return (frame_T >= math.floor(self.start)) & (frame_T < math.ceil(self.end))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipRef:
    """A clip that a source knows of and has not read: small, and can be sent to another process."""

    name: str
    split: str
    speaker: str = ""
    """Empty where the source does not know who speaks."""
    affect: tuple[float, float] | str | None = None
    """Valence and arousal of the whole clip from -1 to 1, or the file that has them by frame, where they are known."""
    where: Any = None
    """How the source finds it again."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Raw landmarks of one video, with its words.

    `landmarks` f32 [T, V, 3], image-normalised (x by width, y by height, z like x; NaN where no face), of the FaceMesh
    points `ids`; `detected` bool [T]; `size` (width, height) in pixels.
    """

    name: str
    split: str
    landmarks: np.ndarray
    detected: np.ndarray
    fps: float
    size: tuple[int, int]
    words: tuple[SpokenWord, ...] = ()
    speaker: str = ""
    """Empty where the source does not know who speaks."""
    affect: Affect | None = None
    """Valence and arousal from -1 to 1, where they are known."""
    ids: tuple[int, ...] = FACE_IDS
    number: int = 0
    """Its place in the source it came from, where clips are read in another order."""

    def __post_init__(self):
        if self.landmarks.ndim != 3 or self.landmarks.shape[1:] != (len(self.ids), 3):
            raise DamagedClip(f"landmarks have shape {self.landmarks.shape}, not [T, {len(self.ids)}, 3]")
        if self.detected.shape != self.landmarks.shape[:1]:
            raise DamagedClip(f"{len(self.landmarks)} frames of landmarks but {self.detected.shape} of `detected`")
        if isinstance(self.affect, np.ndarray) and self.affect.shape != (len(self.landmarks), 2):
            raise DamagedClip(
                f"{len(self.landmarks)} frames of landmarks but {len(self.affect)} of valence and arousal"
            )
        if len(self.landmarks) == 0:
            raise DamagedClip("no frames")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise DamagedClip(f"fps {self.fps} is not positive")
        if min(self.size) <= 0:
            raise DamagedClip(f"size {self.size} is not positive")


def read_raw_landmarks(path: pathlib.Path) -> dict:
    """Reads one `.npz` of the extraction stage: landmarks, detected, fps, size. Raises DamagedClip."""
    try:
        # Opened here: np.load leaves a file open that is not a whole archive.
        with path.open("rb") as opened, np.load(opened) as file:
            missing = {"landmarks", "detected", "fps", "size"} - set(file.files)
            if missing:
                raise DamagedClip(f"keys {', '.join(sorted(missing))} are missing")
            landmarks_TVC = file["landmarks"].astype(np.float32)
            detected_T = file["detected"].astype(bool)
            width, height = (int(v) for v in file["size"])
            fps = float(file["fps"])
    except FileNotFoundError:
        raise DamagedClip("no landmark file") from None
    except (OSError, ValueError, TypeError, OverflowError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DamagedClip(f"not a readable .npz ({error})") from None
    return {"landmarks": landmarks_TVC, "detected": detected_T, "fps": fps, "size": (width, height)}
