"""A small picture of a clip with its landmarks, to see at a glance whether they lie where they should."""

import numpy as np

from jaxlip.data.landmarker import Face
from jaxlip.data.tracking import bounding_box
from jaxlip.face.presets import LIPS_INNER, LIPS_OUTER

SIDE = 144
POINT, LIP = (225, 235, 245), (80, 220, 255)


class Candidate:
    """The frame that will be the thumbnail: the last one with a face up to the middle of the clip, else the first."""

    def __init__(self, middle: int):
        self._middle = middle
        self._image: np.ndarray | None = None
        self._face: Face | None = None

    def offer(self, index: int, image: np.ndarray, face: Face | None) -> None:
        if self._image is None or (face is not None and (index <= self._middle or self._face is None)):
            self._image, self._face = image, face

    def png(self) -> bytes:
        return b"" if self._image is None else draw(self._image, self._face)


def draw(image: np.ndarray, face: Face | None) -> bytes:
    """PNG of SIDE x SIDE pixels: the face with its points, or the whole picture if there is none."""
    import cv2  # pyright: ignore[reportMissingImports]

    height, width = image.shape[:2]
    left, top, side = (width - max(width, height)) / 2, (height - max(width, height)) / 2, max(width, height)
    if face is not None:
        x, y, w, h = bounding_box(face.points_VC, (width, height))
        side = 1.4 * max(w, h, 4)
        left, top = x + w / 2 - side / 2, y + h / 2 - side / 2
    scale = SIDE / side
    move = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    if scale < 0.5:
        # A warp alone would pick pixels instead of averaging them.
        image = cv2.resize(image, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        move = np.array([[0.5, 0, -left * scale], [0, 0.5, -top * scale]])
    # OpenCV names colours the other way round.
    small = cv2.warpAffine(image[..., ::-1], move, (SIDE, SIDE), flags=mode, borderMode=cv2.BORDER_CONSTANT)
    if face is not None:
        xy_VC = (face.points_VC[:, :2] * (width, height) - (left, top)) * scale
        lips = set(LIPS_OUTER + LIPS_INNER)
        for v, (x, y) in enumerate(np.round(xy_VC).astype(int).tolist()):
            if v in lips:
                cv2.circle(small, (x, y), 1, LIP, -1, cv2.LINE_AA)
            elif 0 <= x < SIDE and 0 <= y < SIDE:
                small[y, x] = POINT
    return cv2.imencode(".png", small)[1].tobytes()
