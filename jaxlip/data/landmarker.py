"""MediaPipe's FaceLandmarker on single images, as arrays; and where its model file comes from.

MediaPipe 0.10.33 contacts nobody while it runs. The model is the official file, checked by its sha256 wherever it lies.
"""

import dataclasses
import hashlib
import io
import os
import pathlib
import urllib.request
import zipfile
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxlip.data.clips import LANDMARKS
from jaxlip.errors import UserError

MODEL_NAME = "face_landmarker.task"
MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
MODEL_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
MODEL_VARIABLE = "JAXLIP_FACE_MODEL"
BLENDSHAPES = 52
MOST_FACES = 20


def cached_model() -> pathlib.Path:
    """Where a downloaded model is kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "jaxlip" / MODEL_NAME


def find_model(given: pathlib.Path | None) -> pathlib.Path:
    """The model file: the one given, else $JAXLIP_FACE_MODEL, else the user's cache, else downloaded into it.

    Raises UserError if it cannot be read or is not the official file.
    """
    if given is not None:
        return _checked(given, "--face-model")
    if named := os.environ.get(MODEL_VARIABLE):
        return _checked(pathlib.Path(named), f"${MODEL_VARIABLE}")
    path = cached_model()
    if path.exists():
        return _checked(path, "the cached model")
    return _download(path)


def _checked(path: pathlib.Path, origin: str) -> pathlib.Path:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{origin} {path} cannot be read: {error.strerror}; give {MODEL_NAME} from {MODEL_URL}."
        ) from None
    _check(content, f"{origin} {path}")
    return path


def _check(content: bytes, what: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != MODEL_SHA256:
        raise UserError(
            f"{what} is not the official {MODEL_NAME}: {len(content):,} bytes with sha256 {found[:12]}..., "
            f"not {MODEL_SHA256[:12]}...; get it from {MODEL_URL}."
        )


def _download(path: pathlib.Path) -> pathlib.Path:
    print(f"downloading {MODEL_URL} to {path}", flush=True)
    try:
        with urllib.request.urlopen(MODEL_URL, timeout=60) as answer:
            content = answer.read()
        _check(content, MODEL_URL)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise UserError(
            f"the face model cannot be downloaded from {MODEL_URL} to {path} ({error}); "
            f"fetch it elsewhere and give it by --face-model or ${MODEL_VARIABLE}."
        ) from None
    return path


def import_mediapipe() -> tuple[Any, Any, Any]:
    """(mediapipe, its vision tasks, BaseOptions). Raises UserError saying what to install."""
    # Only counts before the library is loaded; its start-up notes say nothing about a video.
    os.environ.setdefault("GLOG_minloglevel", "2")
    try:
        import mediapipe  # pyright: ignore[reportMissingImports]
        from mediapipe.tasks.python import BaseOptions, vision  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"finding faces needs MediaPipe ({error}); install it: pip install 'jaxlip[video]'.") from None
    except OSError as error:
        raise UserError(
            f"MediaPipe does not load ({error}); it needs libEGL and libGLESv2 (Debian: apt install libegl1 libgles2)."
        ) from None
    return mediapipe, vision, BaseOptions


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """One face in one image: `points_VC` f32 [478, 3] image-normalised; the optional extras if they were asked for."""

    points_VC: np.ndarray
    blendshapes: np.ndarray | None = None
    pose: np.ndarray | None = None


class Landmarker:
    """Follows one face through the images of one video (VIDEO mode, smoothed over time by MediaPipe).

    Told of more than one face, MediaPipe does not smooth (points differ by 0.5 px on GRID) and looks for faces in every
    frame; so which face is read is decided by what it is shown: see jaxlip/data/tracking.py.
    """

    def __init__(self, model: bytes, *, blendshapes: bool, pose: bool):
        self._mediapipe, vision, base_options = import_mediapipe()
        self._blendshapes, self._pose = blendshapes, pose
        options = vision.FaceLandmarkerOptions(
            base_options=base_options(model_asset_buffer=model),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=1,
            output_face_blendshapes=blendshapes,
            output_facial_transformation_matrixes=pose,
        )
        self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def read(self, image: UInt8[np.ndarray, "H W 3"], milliseconds: int) -> Face | None:
        """The face in the next image; `milliseconds` increases strictly. None where there is none."""
        found = self._landmarker.detect_for_video(_picture(self._mediapipe, image), milliseconds)
        if not found.face_landmarks:
            return None
        points_VC = np.array([(p.x, p.y, p.z) for p in found.face_landmarks[0]], np.float32)
        if points_VC.shape != (LANDMARKS, 3) or not np.isfinite(points_VC).all():
            return None
        shapes = np.array([c.score for c in found.face_blendshapes[0]], np.float32) if self._blendshapes else None
        pose = np.asarray(found.facial_transformation_matrixes[0], np.float32) if self._pose else None
        return Face(points_VC, shapes, pose)

    def close(self) -> None:
        self._landmarker.close()


class Detector:
    """Finds all faces of one image, in 1 ms: the detector that is part of the model file, without the landmarks."""

    def __init__(self, model: bytes):
        self._mediapipe, vision, base_options = import_mediapipe()
        detector = zipfile.ZipFile(io.BytesIO(model)).read("face_detector.tflite")
        self._detector = vision.FaceDetector.create_from_options(
            vision.FaceDetectorOptions(
                base_options=base_options(model_asset_buffer=detector), running_mode=vision.RunningMode.IMAGE
            )
        )

    def boxes(self, image: UInt8[np.ndarray, "H W 3"]) -> list[tuple[float, float, float, float]]:
        """(left, top, width, height) in pixels of every face."""
        found = self._detector.detect(_picture(self._mediapipe, image)).detections
        boxes = [d.bounding_box for d in found[:MOST_FACES]]
        sides = [(b.origin_x, b.origin_y, b.width, b.height) for b in boxes if b.width > 0 and b.height > 0]
        return [(float(x), float(y), float(w), float(h)) for x, y, w, h in sides]

    def close(self) -> None:
        self._detector.close()


def _picture(mediapipe: Any, image: np.ndarray) -> Any:
    # MediaPipe takes the memory as it lies and does not look at strides: a view would be read as noise.
    assert image.flags.c_contiguous and image.dtype == np.uint8
    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
