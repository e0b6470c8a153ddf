"""Landmark files of body, face and hands, one `.npz` a clip, as the extraction stage writes them.

`landmarks` f32 [T, 543, 3] image-normalised in the order of `jaxlip.holistic.layout` (NaN, or zeros, where a part was
not found), `fps`, `size` (width, height).
"""

import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from jaxlip.data.clips import DamagedClip
from jaxlip.holistic.layout import POINTS

KEYS = {"landmarks", "fps", "size"}


def read_holistic(path: pathlib.Path) -> dict[str, Any]:
    """landmarks, detected (bool [T]: any part was found), fps, size. Raises DamagedClip."""
    try:
        # Opened here: np.load leaves a file open that is not a whole archive.
        with path.open("rb") as opened, np.load(opened) as file:
            missing = KEYS - set(file.files)
            if missing:
                raise DamagedClip(f"keys {', '.join(sorted(missing))} are missing")
            landmarks_TVC = file["landmarks"].astype(np.float32)
            width, height = (int(v) for v in file["size"])
            fps = float(file["fps"])
    except FileNotFoundError:
        raise DamagedClip(f"there is no landmark file {path}") from None
    except (OSError, ValueError, TypeError, OverflowError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DamagedClip(f"{path} is not a readable .npz ({error})") from None
    if landmarks_TVC.ndim != 3 or landmarks_TVC.shape[1:] != (POINTS, 3):
        raise DamagedClip(f"landmarks of {path} have shape {landmarks_TVC.shape}, not [T, {POINTS}, 3]")
    detected_T = (np.isfinite(landmarks_TVC) & (landmarks_TVC != 0)).any(axis=(1, 2))
    return {"landmarks": landmarks_TVC, "detected": detected_T, "fps": fps, "size": (width, height)}
