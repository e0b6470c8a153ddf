"""What landmarks tell about a clip: head pose, sizes of face and mouth, faces that leave the picture. Pure NumPy."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxlip.face.mean_face import mean_face
from jaxlip.face.normalize import LEFT_EYE, RIGHT_EYE, restore_aspect

# Points that speaking does not move: eye corners, bridge and tip of the nose, forehead, temples, cheekbones.
RIGID = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 10, 151, 9, 127, 356, 234, 454)
MOUTH_CORNERS = (61, 291)
INNER_LIPS = (13, 14)
CHEEKS = (234, 454)
# What is measured, and the bins (degrees, pixels) of its histograms.
BINS = {
    "yaw": 2,
    "pitch": 2,
    "roll": 2,
    "mouth_width": 2,
    "mouth_opening": 1,
    "face_width": 4,
    "eye_distance": 2,
}
MEASURES = tuple(BINS)


def head_pose(points_TVC: Float[np.ndarray, "T V C"]) -> Float[np.ndarray, "T 3"]:
    """Yaw, pitch and roll in degrees of landmarks [T, 478, 3] in pixels, finite.

    The rotation that takes the mean face to the rigid points with the least squared error (Kabsch 1976). Positive:
    turned to the right of the picture, up, and clockwise in the picture.
    """
    model_VC = mean_face()[list(RIGID)].astype(np.float64)
    face_TVC = points_TVC[:, list(RIGID)].astype(np.float64)
    model_VC = model_VC - model_VC.mean(axis=0, keepdims=True)
    face_TVC = face_TVC - face_TVC.mean(axis=1, keepdims=True)
    u_TCC, _, vt_TCC = np.linalg.svd(np.einsum("tvi,vj->tij", face_TVC, model_VC))
    # The nearest rotation, not a reflection.
    u_TCC[..., -1] *= np.sign(np.linalg.det(u_TCC @ vt_TCC))[:, None]
    rotation_TCC = u_TCC @ vt_TCC
    forward_TC, right_TC = -rotation_TCC[..., 2], rotation_TCC[..., 0]
    yaw_T = np.arctan2(forward_TC[:, 0], -forward_TC[:, 2])
    pitch_T = np.arcsin(np.clip(-forward_TC[:, 1], -1, 1))
    roll_T = np.arctan2(right_TC[:, 1], right_TC[:, 0])
    return np.degrees(np.stack([yaw_T, pitch_T, roll_T], axis=1))


def measure(landmarks_TVC: Float[np.ndarray, "T V C"], size: tuple[int, int]) -> Float[np.ndarray, "T 7"]:
    """MEASURES of every frame: angles in degrees, lengths in pixels.

    `landmarks_TVC` is raw (image-normalised) and finite. `mouth_opening` is the gap between the inner lips;
    `eye_distance` is from eye centre to eye centre.
    """
    points_TVC = restore_aspect(landmarks_TVC, size)

    def length(first_TC, second_TC):
        # In the picture: the depth of a single point is too noisy to measure with.
        return np.linalg.norm((first_TC - second_TC)[:, :2], axis=-1)

    def between(pair):
        return length(points_TVC[:, pair[0]], points_TVC[:, pair[1]])

    eyes = [points_TVC[:, list(corners)].mean(axis=1) for corners in (RIGHT_EYE, LEFT_EYE)]
    lengths = [between(MOUTH_CORNERS), between(INNER_LIPS), between(CHEEKS), length(*eyes)]
    return np.column_stack([head_pose(points_TVC), *lengths])


def leaves_picture(landmarks_TVC: Float[np.ndarray, "T V C"]) -> Bool[np.ndarray, " T"]:
    """Frames in which some point of the face lies outside the picture."""
    xy_TVC = landmarks_TVC[..., :2]
    return np.any((xy_TVC < 0) | (xy_TVC > 1), axis=(1, 2))


def summarize(measures_TD: Float[np.ndarray, "T D"]) -> dict[str, Any] | None:
    """5th, 50th and 95th percentile of each of MEASURES over the frames with a face; None without any."""
    if not len(measures_TD):
        return None
    percentiles_3D = np.percentile(measures_TD, (5, 50, 95), axis=0)
    return {
        name: dict(zip(("p5", "median", "p95"), (round(float(v), 2) for v in column), strict=True))
        for name, column in zip(MEASURES, percentiles_3D.T, strict=True)
    }


def histograms(measures_TD: Float[np.ndarray, "T D"]) -> dict[str, dict[str, int]]:
    """Of each of MEASURES: lower edge of a bin -> frames in it; empty bins are left out. Those of clips add up."""
    tables = {}
    for (name, width), column_T in zip(BINS.items(), measures_TD.T, strict=True):
        low_N, count_N = np.unique(np.floor(column_T / width).astype(int) * width, return_counts=True)
        tables[name] = {str(low): int(count) for low, count in zip(low_N, count_N, strict=True)}
    return tables
