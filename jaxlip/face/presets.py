"""Which of MediaPipe's 478 FaceMesh points are graph nodes, and how they mirror."""

import functools

import numpy as np

from jaxlip.errors import UserError
from jaxlip.face.mean_face import mean_face

LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)

_LOWER_OVAL = (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162)
_OTHER_OVAL = (377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356, 389)
_MIDLINE = (1, 2, 4, 5, 6, 19, 164, 18, 175, 199, 200)
_CHEEKS = (36, 50, 101, 205, 206, 207, 266, 280, 330, 425, 426, 427)

# fmt: off
PRESETS: dict[str, tuple[int, ...]] = {
    # MediaPipe's lips connections.
    "lips40": tuple(sorted(LIPS_OUTER + LIPS_INNER)),
    # The original's region of interest. Not closed under mirroring.
    "anatomical88": (
        0, 1, 2, 4, 5, 6, 13, 14, 17, 18, 19, 20, 36, 37, 39, 40, 50, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 101, 116,
        117, 118, 119, 120, 121, 126, 136, 142, 146, 148, 149, 150, 152, 172, 175, 176, 178, 181, 185, 191, 199, 200,
        205, 206, 207, 266, 267, 269, 270, 280, 288, 291, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 330, 356,
        361, 365, 375, 377, 378, 379, 389, 397, 400, 402, 405, 409, 415, 435, 454,
    ),
    # Ours: lips, both sides of the lower face oval, the midline of nose and chin, six cheek points a side.
    "symmetric88": tuple(sorted(LIPS_OUTER + LIPS_INNER + _LOWER_OVAL + _OTHER_OVAL + _MIDLINE + _CHEEKS)),
    # Lips, the right half of the jaw and the nose, as the original's smaller runs used.
    "roi62": (
        0, 1, 4, 13, 14, 17, 36, 37, 39, 40, 50, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 101, 146, 152, 178, 181, 185,
        191, 266, 267, 269, 270, 280, 288, 291, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 330, 356, 361, 365,
        375, 377, 378, 379, 389, 397, 400, 402, 405, 409, 415, 435, 454,
    ),
}
# fmt: on


def preset_ids(preset: str) -> tuple[int, ...]:
    """FaceMesh ids of a preset, in node order. Raises UserError for an unknown name."""
    if preset not in PRESETS:
        raise UserError(f"preset {preset!r} is unknown; choose one of {', '.join(PRESETS)}.")
    return PRESETS[preset]


@functools.cache
def mirror_ids() -> tuple[int, ...]:
    """For each of the 478 FaceMesh ids, the id on the other side of the face (its own, on the midline).

    Read off the mean face, which is exactly symmetric: a point's mirror is the point at its reflection.
    """
    face_VC = mean_face().astype(np.float64)
    reflected_VC = face_VC * [-1, 1, 1]
    distance_VV = np.linalg.norm(face_VC[:, None] - reflected_VC[None], axis=-1)
    mirror_V = distance_VV.argmin(axis=1)
    assert np.array_equal(mirror_V[mirror_V], np.arange(len(face_VC))), "the mean face is not symmetric"
    return tuple(int(i) for i in mirror_V)


def is_mirror_closed(ids: tuple[int, ...]) -> bool:
    """Whether every id's mirror partner is among the ids, so that a horizontal flip is defined."""
    mirror = mirror_ids()
    return {mirror[i] for i in ids} == set(ids)


def mirror_map(ids: tuple[int, ...], what: str = "these landmarks") -> tuple[int, ...]:
    """Row permutation of a horizontal flip: row v of the flipped face is row map[v], with x negated.

    Raises UserError naming the ids without a partner where the set is not closed under mirroring.
    """
    mirror, row = mirror_ids(), {id_: v for v, id_ in enumerate(ids)}
    lonely = [i for i in ids if mirror[i] not in row]
    if lonely:
        raise UserError(
            f"{what} cannot be flipped: {len(lonely)} points have no mirror partner in it "
            f"({', '.join(map(str, lonely[:6]))}, ...); use preset symmetric88 or lips40, or set flip to 0."
        )
    return tuple(row[mirror[i]] for i in ids)
