"""Body, face and hands of one person in a video, by MediaPipe's three landmarkers, in the order of the holistic layout.

Each model is a file that is given: `pose_landmarker.task`, `face_landmarker.task`, `hand_landmarker.task`, MediaPipe's
official ones. A part without a model is NaN in every frame, as is one that is not found.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from jaxlip.data.landmarker import import_mediapipe
from jaxlip.errors import UserError
from jaxlip.holistic.layout import FACE, HANDS, LEFT_HAND, POINTS, POSE, RIGHT_HAND, Part

WRISTS = {LEFT_HAND.name: 15, RIGHT_HAND.name: 16}
"""The body's own wrists, by which hands are told apart."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HolisticModels:
    """Model files; None for parts that are not looked for."""

    pose: pathlib.Path | None = None
    face: pathlib.Path | None = None
    hand: pathlib.Path | None = None

    def __post_init__(self):
        given = {name: path for name, path in vars(self).items() if path is not None}
        if not given:
            raise UserError("no model file is given: --hand-model, --pose-model and --face-model, one or more of them.")
        for name, path in given.items():
            if not path.is_file():
                raise UserError(
                    f"--{name}-model {path} is not there; it is MediaPipe's {name}_landmarker.task, from "
                    "https://ai.google.dev/edge/mediapipe/solutions/guide."
                )


class HolisticLandmarker:
    """Follows body, face and hands through the pictures of one video. Raises UserError for a file that is no model."""

    def __init__(self, models: HolisticModels):
        self._mediapipe, vision, base_options = import_mediapipe()
        self._landmarkers: dict[str, Any] = {}
        try:
            for name, options, kind, extra in (
                ("pose", vision.PoseLandmarkerOptions, vision.PoseLandmarker, {"num_poses": 1}),
                ("face", vision.FaceLandmarkerOptions, vision.FaceLandmarker, {"num_faces": 1}),
                ("hand", vision.HandLandmarkerOptions, vision.HandLandmarker, {"num_hands": 2}),
            ):
                path = getattr(models, name)
                if path is not None:
                    base = base_options(model_asset_buffer=path.read_bytes())
                    made = options(base_options=base, running_mode=vision.RunningMode.VIDEO, **extra)
                    self._landmarkers[name] = kind.create_from_options(made)
        except (RuntimeError, ValueError, OSError) as error:
            self.close()
            reason = (str(error).splitlines() or ["unknown"])[0][:200]
            raise UserError(f"--{name}-model {path} is not a {name} landmarker of MediaPipe: {reason}") from None

    def read(self, image: UInt8[np.ndarray, "H W 3"], milliseconds: int) -> Float[np.ndarray, "543 3"]:
        """The points in the next picture, image-normalised; `milliseconds` increases strictly."""
        picture = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image, np.uint8)
        )
        found = {name: each.detect_for_video(picture, milliseconds) for name, each in self._landmarkers.items()}
        points_VC = np.full((POINTS, 3), np.nan, np.float32)
        for part, name in ((POSE, "pose"), (FACE, "face")):
            people = getattr(found[name], f"{name}_landmarks") if name in found else []
            if people:
                points_VC[part.points] = _array(people[0], part)
        if "hand" in found:
            hands = [_array(hand, LEFT_HAND) for hand in found["hand"].hand_landmarks]
            labels = [sides[0].category_name for sides in found["hand"].handedness]
            for part, hand_VC in tell_apart(hands, labels, points_VC[POSE.points]):
                points_VC[part.points] = hand_VC
        return points_VC

    def close(self) -> None:
        for landmarker in self._landmarkers.values():
            landmarker.close()


def _array(landmarks: Any, part: Part) -> np.ndarray:
    """[part.size, 3]; of the face's 478 points the 468 without the irises."""
    return np.array([(p.x, p.y, p.z) for p in landmarks[: part.size]], np.float32)


def tell_apart(
    hands: list[np.ndarray], labels: list[str], pose_VC: Float[np.ndarray, "33 3"]
) -> Iterator[tuple[Part, np.ndarray]]:
    """Which hand is the person's left and which the right.

    By the nearer wrist of the body where it was found, each wrist having one hand; else by MediaPipe's label, which is
    of a mirrored picture (a selfie), and so the other one here.
    """
    if np.isfinite(pose_VC).all():
        pairs = sorted(
            (float(np.linalg.norm(hand_VC[0, :2] - pose_VC[WRISTS[part.name], :2])), n, part.name)
            for n, hand_VC in enumerate(hands)
            for part in HANDS
        )
    else:
        pairs = [(0.0, n, {"Left": "right_hand"}.get(label, "left_hand")) for n, label in enumerate(labels)]
    by_name, used = {part.name: part for part in HANDS}, set()
    for _, n, name in pairs:
        if n not in used and name in by_name:
            used.add(n)
            yield by_name.pop(name), hands[n]
