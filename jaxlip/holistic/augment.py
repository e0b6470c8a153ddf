"""Random variation of signing in training, inside jit: on landmarks, so that every derived feature follows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxlip.config import Component, require
from jaxlip.face.augment import Timed, frozen_times, nearest, resample, warped_times
from jaxlip.holistic.features import FINGERS, is_there
from jaxlip.holistic.layout import HANDS, PARTS, rows_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignAugment(Component):
    """How strongly training clips are varied; 0 everywhere leaves them as they are."""

    tilt: float = 0.0
    """Standard deviation of a clip's rotation about the horizontal and about the vertical axis, in degrees."""
    roll: float = 0.0
    """Standard deviation of a clip's rotation in the image plane, in degrees."""
    stretch: float = 0.0
    """Standard deviation of the logarithm of a clip's size along each axis by itself."""
    bones: float = 0.0
    """Standard deviation of the logarithm of the length of each finger."""
    noise: float = 0.0
    """Standard deviation of independent noise on every coordinate, in picture heights."""
    warp: float = 0.0
    """Largest local change of speed: time runs between 1 - warp and 1 + warp times as fast."""
    move: float = 0.0
    """Largest shift in time, in frames."""
    mask: float = 0.0
    """Largest part of a clip's frames that is frozen: a run of frames repeats the one before it."""
    masks: int = 1
    """How many such runs a clip has."""

    def __post_init__(self):
        for field in ("tilt", "roll", "stretch", "bones", "noise", "move"):
            require(getattr(self, field) >= 0, self, field, "0 or more")
        require(self.masks >= 1, self, "masks", "1 or more; mask=0 turns them off")
        for field in ("warp", "mask"):
            require(0 <= getattr(self, field) < 1, self, field, "in [0, 1)")


def turn(landmarks_BTVC: Float[Array, "B T V 3"], config: SignAugment, key: Array) -> Float[Array, "B T V 3"]:
    """One random rotation and stretching about the middle of the picture for each clip."""
    keys = jax.random.split(key, 2)
    deviation_3 = jnp.deg2rad(jnp.array([config.tilt, config.tilt, config.roll]))
    angle_B3 = deviation_3[None] * jax.random.normal(keys[0], (len(landmarks_BTVC), 3))
    turn_BCC = (
        jnp.exp(config.stretch * jax.random.normal(keys[1], (len(landmarks_BTVC), 3)))[:, None] * jnp.eye(3)[None]
    )
    for axis, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
        cos_B, sin_B = jnp.cos(angle_B3[:, axis]), jnp.sin(angle_B3[:, axis])
        plane_BCC = jnp.tile(jnp.eye(3)[None], (len(landmarks_BTVC), 1, 1))
        plane_BCC = (
            plane_BCC.at[:, i, i].set(cos_B).at[:, j, j].set(cos_B).at[:, i, j].set(-sin_B).at[:, j, i].set(sin_B)
        )
        turn_BCC = plane_BCC @ turn_BCC
    middle_C = np.array([0.5, 0.5, 0.0], np.float32)[None, None, None]
    return jnp.einsum("btvc,bdc->btvd", landmarks_BTVC - middle_C, turn_BCC) + middle_C


def lengthen(
    landmarks_BTVC: Float[Array, "B T V 3"], config: SignAugment, key: Array, ids: tuple[int, ...]
) -> Float[Array, "B T V 3"]:
    """Every finger of a clip longer or shorter: its bones from the knuckle on, in their directions."""
    for number, part in enumerate(HANDS):
        rows = rows_of(part, ids)
        if rows is None:
            continue
        longer_B5 = jnp.exp(config.bones * jax.random.normal(jax.random.fold_in(key, number), (len(landmarks_BTVC), 5)))
        for finger, joints in enumerate(FINGERS):
            at = np.array(rows)[np.array(joints[1:])]
            knuckle_BT1C = landmarks_BTVC[:, :, at[:1]]
            bones_BTVC = (landmarks_BTVC[:, :, at] - knuckle_BT1C) * longer_B5[:, finger, None, None, None]
            landmarks_BTVC = landmarks_BTVC.at[:, :, at].set(knuckle_BT1C + bones_BTVC)
    return landmarks_BTVC


def _missing(landmarks_BTVC: Float[Array, "B T V 3"], ids: tuple[int, ...]) -> Float[Array, "B T V 3"]:
    """Landmarks with NaN for a part that is not there, instead of 0."""
    for part in PARTS:
        rows = rows_of(part, ids)
        if rows is not None:
            points_BTVC = landmarks_BTVC[:, :, np.array(rows)]
            points_BTVC = jnp.where(is_there(points_BTVC)[..., None, None], points_BTVC, jnp.nan)
            landmarks_BTVC = landmarks_BTVC.at[:, :, np.array(rows)].set(points_BTVC)
    return landmarks_BTVC


def augment(batch, config: SignAugment, key: Array, *, ids: tuple[int, ...]):
    """A varied copy of a batch; landmarks, masks and target move together. A part that is missing stays so."""
    keys = jax.random.split(key, 5)
    # NaN goes through all that follows, and makes whatever is mixed with it missing too.
    landmarks_BTVC, target = _missing(batch.landmarks_BTVC, ids), batch.target
    masks = {name: getattr(batch, name) for name in ("frames_BT", "detected_BT", "speech_BT")}
    if config.warp or config.move or config.mask:
        time_BT = warped_times(landmarks_BTVC.shape[1], len(landmarks_BTVC), config, keys[0])
        frozen_BT = time_BT
        for number in range(config.masks if config.mask else 0):
            frozen_BT = frozen_times(frozen_BT, config, jax.random.fold_in(keys[1], number))
        landmarks_BTVC = resample(landmarks_BTVC, batch.frames_BT, frozen_BT)
        masks = {name: nearest(mask_BT, time_BT) for name, mask_BT in masks.items()}
        target = target.retimed(time_BT) if isinstance(target, Timed) else target
    if config.bones:
        landmarks_BTVC = lengthen(landmarks_BTVC, config, keys[2], ids)
    if config.tilt or config.roll or config.stretch:
        landmarks_BTVC = turn(landmarks_BTVC, config, keys[3])
    if config.noise:
        landmarks_BTVC += config.noise * jax.random.normal(keys[4], landmarks_BTVC.shape)
    landmarks_BTVC = jnp.where(jnp.isnan(landmarks_BTVC), 0, landmarks_BTVC)
    return dataclasses.replace(batch, landmarks_BTVC=landmarks_BTVC, target=target, **masks)
