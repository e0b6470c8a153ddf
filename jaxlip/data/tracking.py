"""Which face of a video is followed, and from which part of the picture it is read.

A face is read from the whole picture, by one FaceLandmarker that is told of one face, unless

- none is found there: the detector, which sees 128 x 128 pixels, misses faces of under about a tenth of the picture, so
  halves and quarters of it are searched;
- it is narrower than TINY pixels: of a GRID face at a quarter of its size, landmarks from an enlarged cut-out lie
  0.76 px (of the original) from those of the whole face, and 2.27 px without it (tests/test_extract.py);
- there are several: the chosen one is cut out, and the others are painted over.

A cut-out is CUT faces wide and stays where it is until the face leaves its middle, since MediaPipe tracks and smooths
from frame to frame.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxlip.data.landmarker import Detector, Face, Landmarker
from jaxlip.errors import UserError

Box = tuple[float, float, float, float]

TINY = 96
CUT = 3.0
ENLARGED = 512
# Frames between looks for other faces.
LOOK = 25
# Another face takes over from the one followed if it is this many times as large.
TAKEOVER = 2.0
# Parts of the picture's shorter side that are searched, overlapping by half.
TILES = (1 / 2, 1 / 4)
SMALLEST_TILE = 48
GREY = 128


@dataclasses.dataclass(frozen=True)
class FaceChoice:
    """Which of several faces is followed: the largest, the one nearest to the centre, or the N-th from the left."""

    rule: str = "largest"

    def __post_init__(self):
        if self.rule not in ("largest", "center") and not (self.rule.isdecimal() and int(self.rule) >= 1):
            raise UserError(f"--face {self.rule} is not largest, center or a number from 1 (counted from the left).")

    @property
    def number(self) -> int | None:
        return int(self.rule) if self.rule.isdecimal() else None

    def choose(self, boxes: Sequence[Box], size: tuple[int, int]) -> Box | None:
        """One of the boxes of a picture of `size` (width, height); None if there is no N-th."""
        if self.number is not None:
            return sorted(boxes)[self.number - 1] if len(boxes) >= self.number else None
        if self.rule == "center":
            middle = np.array(size) / 2
            return min(boxes, key=lambda box: float(np.linalg.norm(_centre(box) - middle)), default=None)
        return max(boxes, key=lambda box: box[2] * box[3], default=None)


@dataclasses.dataclass(frozen=True)
class View:
    """A square of the picture, in pixels, that is shown to the landmarker; `None` as a view is the whole picture."""

    left: int
    top: int
    side: int

    @classmethod
    def around(cls, box: Box) -> "View":
        side = max(round(CUT * max(box[2:])), 8)
        x, y = _centre(box)
        return cls(round(x - side / 2), round(y - side / 2), side)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The square, black where it reaches over the edge, brought to ENLARGED pixels if it is smaller."""
        import cv2  # pyright: ignore[reportMissingImports]

        height, width = image.shape[:2]
        x0, y0 = max(self.left, 0), max(self.top, 0)
        x1, y1 = min(self.left + self.side, width), min(self.top + self.side, height)
        square = np.zeros((self.side, self.side, 3), np.uint8)
        square[y0 - self.top : y1 - self.top, x0 - self.left : x1 - self.left] = image[y0:y1, x0:x1]
        if self.side < ENLARGED:
            square = cv2.resize(square, (ENLARGED, ENLARGED), interpolation=cv2.INTER_CUBIC)
        return np.ascontiguousarray(square)

    def to_picture(self, face: Face, size: tuple[int, int]) -> Face:
        """Landmarks of the square as those of the picture; z is in units of the width, as x is."""
        scale_C = np.array([self.side / size[0], self.side / size[1], self.side / size[0]], np.float32)
        origin_C = np.array([self.left / size[0], self.top / size[1], 0], np.float32)
        return dataclasses.replace(face, points_VC=face.points_VC * scale_C[None] + origin_C[None])

    def holds(self, box: Box) -> bool:
        """Whether a face is still in the middle of the square, at about the size that it was cut for."""
        away = np.abs(_centre(box) - (self.left + self.side / 2, self.top + self.side / 2)).max()
        return bool(away < 0.2 * self.side and 0.6 < CUT * max(box[2:]) / self.side < 1.6)


class FaceTracker:
    """Follows the chosen face through the frames of one video."""

    def __init__(self, model: bytes, detector: Detector, choice: FaceChoice, *, blendshapes: bool, pose: bool):
        self._model, self._detector, self._choice = model, detector, choice
        self._extras = {"blendshapes": blendshapes, "pose": pose}
        self._landmarker = Landmarker(model, **self._extras)
        self._view: View | None = None
        self._others: list[Box] = []
        self._followed: Box | None = None
        self._frame = self._wait = self._next_look = self._next_search = 0
        self.frames_cut_out = 0
        self.most_faces = 0

    def __enter__(self) -> "FaceTracker":
        return self

    def __exit__(self, *_: object) -> None:
        self._landmarker.close()

    def read(self, image: np.ndarray, milliseconds: int) -> Face | None:
        """The followed face in the next frame, in coordinates of the whole picture; None where there is none."""
        if self._frame >= self._next_look:
            self._look(image)
            self._next_look = self._frame + LOOK
        face = self._read(image, milliseconds) if self._may_read() else None
        if face is None and self._search(image):
            face = self._read(image, milliseconds)
        self._follow(face, image)
        self._frame += 1
        return face

    def _may_read(self) -> bool:
        # The N-th face is only known from a look at all of them; the first may be the only one.
        number = self._choice.number
        return number is None or self._view is not None or (number == 1 and self.most_faces == 1)

    def _read(self, image: np.ndarray, time: int) -> Face | None:
        if self._view is None:
            return self._landmarker.read(image, time)
        height, width = image.shape[:2]
        face = self._landmarker.read(self._view.cut(self._paint(image)), time)
        self.frames_cut_out += face is not None
        return None if face is None else self._view.to_picture(face, (width, height))

    def _paint(self, image: np.ndarray) -> np.ndarray:
        """The picture with all faces but the chosen one painted over."""
        if not self._others:
            return image
        image = image.copy()
        for left, top, width, height in self._others:
            # The detector's box leaves out forehead and chin.
            x0, y0 = max(round(left - 0.15 * width), 0), max(round(top - 0.3 * height), 0)
            image[y0 : max(round(top + 1.15 * height), 0), x0 : max(round(left + 1.15 * width), 0)] = GREY
        return image

    def _look(self, image: np.ndarray) -> None:
        """Counts the faces; with several of them, sees to it that the chosen one is the one that is read."""
        boxes = self._detector.boxes(image)
        self.most_faces = max(self.most_faces, len(boxes))
        if len(boxes) > 1:
            chosen = self._keep_or_choose(boxes, image)
            self._others = [box for box in boxes if box is not chosen] if chosen else []
            if chosen and (self._view is None or not self._view.holds(chosen)):
                self._move(View.around(chosen))
        elif len(boxes) == 1:
            self._others = []
            if self._view is None and boxes[0][2] < TINY and self._choice.number in (None, 1):
                self._move(View.around(boxes[0]))

    def _keep_or_choose(self, boxes: list[Box], image: np.ndarray) -> Box | None:
        """The box of the face being followed, unless a much larger one has come and the largest is wanted."""
        chosen = self._choice.choose(boxes, (image.shape[1], image.shape[0]))
        followed = self._followed
        if followed is None or chosen is None or self._view is None:
            return chosen
        same = min(boxes, key=lambda box: float(np.linalg.norm(_centre(box) - _centre(followed))))
        if np.linalg.norm(_centre(same) - _centre(followed)) > max(followed[2:]):
            return chosen
        larger = self._choice.rule == "largest" and chosen[2] * chosen[3] > TAKEOVER * same[2] * same[3]
        return chosen if larger else same

    def _search(self, image: np.ndarray) -> bool:
        """Looks for a face where the landmarker saw none, ever more seldom; True if there is a new view to read."""
        if self._frame < self._next_search:
            return False
        boxes = self._detector.boxes(image) or self._search_tiles(image)
        chosen = self._choice.choose(boxes, (image.shape[1], image.shape[0]))
        if chosen is None or View.around(chosen) == self._view:
            self._wait = min(2 * self._wait + 1, LOOK)
            self._next_search = self._frame + self._wait
            return False
        self._others = [box for box in boxes if box is not chosen]
        self._move(View.around(chosen))
        return True

    def _search_tiles(self, image: np.ndarray) -> list[Box]:
        """Faces of the coarsest tiling that shows any, each once."""
        height, width = image.shape[:2]
        for part in TILES:
            side = round(part * min(height, width))
            if side < SMALLEST_TILE:
                break
            found: list[Box] = []
            for top in _starts(height, side):
                for left in _starts(width, side):
                    tile = np.ascontiguousarray(image[top : top + side, left : left + side])
                    boxes = [(x + left, y + top, w, h) for x, y, w, h in self._detector.boxes(tile)]
                    found += [box for box in boxes if not any(_same(box, other) for other in found)]
            if found:
                return found
        return []

    def _follow(self, face: Face | None, image: np.ndarray) -> None:
        """Notes where the face is; moves the view after it, or back to the whole picture if it has grown."""
        if face is None:
            self._followed = None
            # Whoever is seen next may be somebody else.
            self._next_look = self._frame + 1
            if self._view is not None and self._choice.number is None:
                self._others = []
                self._move(None)
            return
        self._wait = 0
        height, width = image.shape[:2]
        box = bounding_box(face.points_VC, (width, height))
        moved = self._followed is not None and np.abs(_centre(box) - _centre(self._followed)).max() > max(box[2:]) / 2
        self._followed = box
        if moved:
            self._next_look = self._frame + 1
        if self._view is None:
            if box[2] < 0.8 * TINY:
                self._move(View.around(box))
        elif not self._others and box[2] > 1.2 * TINY and CUT * max(box[2:]) > 0.5 * min(height, width):
            self._move(None)
        elif not self._view.holds(box):
            self._move(View.around(box))

    def _move(self, view: View | None) -> None:
        """Another view is another video to MediaPipe: its tracking and smoothing begin again."""
        if view != self._view:
            self._view = view
            self._landmarker.close()
            self._landmarker = Landmarker(self._model, **self._extras)


def bounding_box(points_VC: np.ndarray, size: tuple[int, int]) -> Box:
    """(left, top, width, height) in pixels of image-normalised landmarks."""
    low, high = points_VC[:, :2].min(axis=0) * size, points_VC[:, :2].max(axis=0) * size
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def _centre(box: Box) -> np.ndarray:
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])


def _same(box: Box, other: Box) -> bool:
    return bool(np.linalg.norm(_centre(box) - _centre(other)) < max(*box[2:], *other[2:]) / 2)


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin that overlap by half and cover the whole length."""
    return sorted({*range(0, length - side, max(side // 2, 1)), length - side})
