"""Landmarks of body, face and hands -> what a model reads of a frame; JAX, inside jit.

A part whose points are all 0 is not there: every quantity of it is zero in such a frame, and no motion is taken across
a gap. Nothing looks further than two frames back, and nothing ahead, so that a stream has the same features as a file.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxlip.config import Component, require
from jaxlip.holistic.layout import HANDS, LEFT_HAND, PARTS, POSE, RIGHT_HAND, WIDTH, Part, rows_of

SMALLEST = 1e-4
"""A part smaller than this, in picture heights, has no directions."""
FASTEST = 4.0
"""Motion, in part sizes a frame, above which it is a mistake of the tracker and cut off."""

# From the wrist to the tip of each finger.
FINGERS = tuple((0, *range(first, first + 4)) for first in (1, 5, 9, 13, 17))
TIPS = (4, 8, 12, 16, 20)
MOVING = (0, 8, 20)
# Tips to each other, to knuckles and to the wrist; the thumb's to the joints that it hides behind or touches.
REACHES = (
    ((4, 8), (4, 12), (4, 16), (4, 20), (8, 12), (12, 16), (16, 20), (8, 16))
    + ((4, 5), (4, 9), (4, 13), (4, 17), (4, 6), (4, 10), (4, 14), (3, 6), (3, 10))
    + ((8, 5), (12, 9), (16, 13), (20, 17), (8, 0), (12, 0), (16, 0), (20, 0), (4, 0))
    + ((8, 10), (8, 6), (12, 10), (6, 10), (10, 14))
)


class Placed(NamedTuple):
    """A part of every frame: `points_BTVC` as they are (0 where not `present_BT`), its own frame, and the points in it:
    `own_BTVC` from the origin in units of the part's size, `axes_BTCA` the directions of its axes, in columns."""

    points_BTVC: Array
    present_BT: Array
    origin_BTC: Array
    unit_BT: Array
    own_BTVC: Array
    axes_BTCA: Array


def place(
    landmarks_BTVC: Float[Array, "B T V 3"], frames_BT: Bool[Array, "B T"], part: Part, ids: tuple[int, ...]
) -> Placed:
    """The part in its own frame. A part whose points are not stored is nowhere present."""
    rows = rows_of(part, ids)
    if rows is None:
        points_BTVC = jnp.zeros((*landmarks_BTVC.shape[:2], part.size, 3), landmarks_BTVC.dtype)
    else:
        points_BTVC = landmarks_BTVC[:, :, np.array(rows)]
    present_BT = frames_BT & is_there(points_BTVC)
    points_BTVC = jnp.where(present_BT[..., None, None], points_BTVC, 0)
    origin_BTC = points_BTVC[:, :, np.array(part.origin)].mean(axis=2)
    unit_BT = sum(_length(points_BTVC[:, :, a] - points_BTVC[:, :, b]) for a, b in part.unit) / len(part.unit)
    unit_BT = jnp.maximum(unit_BT, SMALLEST)
    own_BTVC = (points_BTVC - origin_BTC[:, :, None]) / unit_BT[..., None, None]
    across_BTC = _direction(own_BTVC[:, :, part.across[1]] - own_BTVC[:, :, part.across[0]])
    up_BTC = own_BTVC[:, :, part.up]
    up_BTC = _direction(up_BTC - jnp.sum(up_BTC * across_BTC, axis=-1, keepdims=True) * across_BTC)
    axes_BTCA = jnp.stack([across_BTC, up_BTC, jnp.cross(across_BTC, up_BTC)], axis=-1)
    return Placed(points_BTVC, present_BT, origin_BTC, unit_BT, own_BTVC, axes_BTCA)


def is_there(points_BTVC: Float[Array, "B T V 3"]) -> Bool[Array, "B T"]:
    """Frames that have a part, from its points."""
    return (points_BTVC != 0).any(axis=(2, 3))


def _length(vector):
    # The gradient of a norm at 0 is NaN without the floor.
    return jnp.sqrt(jnp.maximum(jnp.sum(vector**2, axis=-1), 1e-12))


def _direction(vector):
    return vector / jnp.maximum(_length(vector), SMALLEST)[..., None]


def _before(present_BT):
    return jnp.pad(present_BT[:, :-1], ((0, 0), (1, 0)))


def motion(values_BTVC, present_BT) -> tuple[Array, Array]:
    """First difference in time and where there is one: in frames whose predecessor has the part too, else 0."""
    both_BT = present_BT & _before(present_BT)
    step_BTVC = values_BTVC - jnp.pad(values_BTVC[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
    return jnp.where(both_BT[..., None, None], step_BTVC, 0), both_BT


def velocity(part: Placed) -> tuple[Array, Array]:
    """Motion of the points in the picture, in part sizes a frame, and where there is one: where a hand goes is
    motion."""
    step_BTVC, moving_BT = motion(part.points_BTVC, part.present_BT)
    return jnp.clip(step_BTVC / part.unit_BT[..., None, None], -FASTEST, FASTEST), moving_BT


def location(part: Placed, body: Placed) -> Array:
    """Where a part's origin is from between the shoulders, in shoulder widths [B, T, 3]; 0 without a body."""
    both_BT1 = (part.present_BT & body.present_BT)[..., None]
    return jnp.where(both_BT1, (part.origin_BTC - body.origin_BTC) / body.unit_BT[..., None], 0)


def holistic6516(landmarks_BTVC, frames_BT, ids: tuple[int, ...]) -> Float[Array, "B T 6516"]:
    """Four blocks of all 543 points, in the layout's order.

    position: each point from its part's origin (wrist, between the shoulders, between the eyes) in units of the part's
    size; the wrist's own slot, which would be zero, has the wrist's place from between the shoulders. velocity,
    acceleration: differences of points in the picture, in part sizes. shape: position turned into the part's own axes
    (palm, shoulders, face), which neither place, size nor attitude changes.
    """
    parts = [place(landmarks_BTVC, frames_BT, part, ids) for part in PARTS]
    blocks: list[list[Array]] = [[], [], [], []]
    for part, placed in zip(PARTS, parts, strict=True):
        real_BT11 = placed.present_BT[..., None, None]
        position_BTVC = placed.own_BTVC
        if part in HANDS:
            position_BTVC = position_BTVC.at[:, :, 0].set(location(placed, parts[PARTS.index(POSE)]))
        velocity_BTVC, moving_BT = velocity(placed)
        shape_BTVC = jnp.einsum("btvc,btca->btva", placed.own_BTVC, placed.axes_BTCA)
        values = (position_BTVC, velocity_BTVC, motion(velocity_BTVC, moving_BT)[0], shape_BTVC)
        for block, value_BTVC in zip(blocks, values, strict=True):
            block.append(jnp.where(real_BT11, value_BTVC, 0).reshape(*frames_BT.shape, part.width))
    return jnp.concatenate([part for block in blocks for part in block], axis=-1)


def hand_shape(hand: Placed) -> Float[Array, "B T D"]:
    """A hand in 142 numbers: points from the wrist and in the palm's axes, those axes, reaches between joints, bends of
    joints, and the motion of wrist and fingertips."""
    own_BTVC = hand.own_BTVC
    flat = (*hand.present_BT.shape, -1)
    a, b = np.array(REACHES).T
    reach_BTD = _length(own_BTVC[:, :, a] - own_BTVC[:, :, b])
    bends = []
    for finger in FINGERS:
        bone_BTVC = _direction(own_BTVC[:, :, np.array(finger[1:])] - own_BTVC[:, :, np.array(finger[:-1])])
        bends.append(jnp.sum(bone_BTVC[:, :, 1:] * bone_BTVC[:, :, :-1], axis=-1))
    values = [
        own_BTVC[:, :, 1:].reshape(flat),
        hand.axes_BTCA.reshape(flat),
        reach_BTD,
        *bends,
        velocity(hand)[0][:, :, np.array(MOVING)].reshape(flat),
    ]
    return jnp.where(hand.present_BT[..., None], jnp.concatenate(values, axis=-1), 0)


def _mirrored_left(landmarks_BTVC, frames_BT, ids) -> Placed:
    """The left hand as a right one."""
    return place(landmarks_BTVC * np.array([[[[-1, 1, 1]]]], np.float32), frames_BT, LEFT_HAND, ids)


def two_hands(landmarks_BTVC, frames_BT, ids: tuple[int, ...]) -> Float[Array, "B T D"]:
    """`hand_shape` of both hands, the left one mirrored, with presence and place of each."""
    body = place(landmarks_BTVC, frames_BT, POSE, ids)
    right, left = (place(landmarks_BTVC, frames_BT, part, ids) for part in (RIGHT_HAND, LEFT_HAND))
    shapes = [hand_shape(right), hand_shape(_mirrored_left(landmarks_BTVC, frames_BT, ids))]
    there = [hand.present_BT[..., None].astype(landmarks_BTVC.dtype) for hand in (right, left)]
    return jnp.concatenate([*shapes, *there, location(right, body), location(left, body)], axis=-1)


def one_hand(landmarks_BTVC, frames_BT, ids: tuple[int, ...]) -> Float[Array, "B T D"]:
    """`hand_shape` of the right hand, or of the mirrored left one in frames that have only that; and whether one is
    there. For fingerspelling, which either hand does alone."""
    right, left = place(landmarks_BTVC, frames_BT, RIGHT_HAND, ids), _mirrored_left(landmarks_BTVC, frames_BT, ids)
    shape_BTD = jnp.where(right.present_BT[..., None], hand_shape(right), hand_shape(left))
    there_BT1 = (right.present_BT | left.present_BT)[..., None].astype(landmarks_BTVC.dtype)
    return jnp.concatenate([shape_BTD, there_BT1], axis=-1)


HAND_WIDTH = 20 * 3 + 9 + len(REACHES) + len(FINGERS) * 3 + len(MOVING) * 3
FEATURE_SETS: dict[str, tuple[Callable[..., Array], int]] = {
    "holistic6516": (holistic6516, WIDTH),
    "two_hands": (two_hands, 2 * HAND_WIDTH + 8),
    "one_hand": (one_hand, HAND_WIDTH + 1),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class HolisticInput(Component):
    """What a model needs to know to turn stored landmarks into the vector of a frame."""

    features: str
    """A key of FEATURE_SETS."""
    ids: tuple[int, ...]
    """Holistic points of the landmark axis."""

    def __post_init__(self):
        require(self.features in FEATURE_SETS, self, "features", f"one of {', '.join(FEATURE_SETS)}")

    @property
    def width(self) -> int:
        """Numbers a frame."""
        return FEATURE_SETS[self.features][1]

    def vectors(
        self, landmarks_BTVC: Float[Array, "B T V 3"], frames_BT: Bool[Array, "B T"], speech_BT: Bool[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Zero in frames that are not real. `speech_BT` is not used."""
        del speech_BT
        return FEATURE_SETS[self.features][0](landmarks_BTVC, frames_BT, self.ids)
