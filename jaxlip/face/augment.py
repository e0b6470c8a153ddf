"""Random variation of landmark clips in training, inside jit: on landmarks, so that every derived feature follows."""

import dataclasses
import functools
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.face.features import stored_ids
from jaxlip.face.occlusion import dropped_times, held_still, lost_landmarks, lost_region, mean_landmarks
from jaxlip.face.presets import mirror_map


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment(Component):
    """How strongly training clips are varied; 0 everywhere leaves them as they are."""

    shift: float = 0.0
    """Standard deviation of a clip's translation, in inter-ocular distances."""
    scale: float = 0.0
    """Standard deviation of the logarithm of a clip's size."""
    roll: float = 0.0
    """Standard deviation of a clip's rotation in the image plane, in degrees."""
    noise: float = 0.0
    """Standard deviation of independent noise on every coordinate, in inter-ocular distances."""
    warp: float = 0.0
    """Largest local change of speaking rate: time runs between 1 - warp and 1 + warp times as fast."""
    move: float = 0.0
    """Largest shift in time, in frames."""
    mask: float = 0.0
    """Largest part of a clip's frames that is frozen (time masking): a run of frames repeats the one before it."""
    masks: int = 1
    """How many such runs a clip has."""
    flip: float = 0.0
    """Probability of a horizontal flip; needs a preset that is closed under mirroring."""
    speed: float = 0.0
    """Largest change of a clip's speaking rate as a whole (resampling), about its middle."""
    drop: float = 0.0
    """Probability that a frame is dropped: it repeats the one before."""
    shear: float = 0.0
    """Standard deviation of a clip's shear in the image plane, sideways by height."""
    stretch: float = 0.0
    """Standard deviation of the logarithm of a clip's width beside its height."""
    lose: float = 0.0
    """Probability that a landmark stands still at its mean over the clip."""
    region: float = 0.0
    """Largest part of the landmarks, around one of them, that stand still."""

    def __post_init__(self):
        for field in ("shift", "scale", "roll", "noise", "move", "shear", "stretch"):
            require(getattr(self, field) >= 0, self, field, "0 or more")
        require(self.masks >= 1, self, "masks", "1 or more; mask=0 turns them off")
        for field in ("warp", "mask", "speed", "drop", "lose", "region"):
            require(0 <= getattr(self, field) < 1, self, field, "in [0, 1)")
        require(0 <= self.flip <= 1, self, "flip", "in [0, 1]")


@runtime_checkable
class TimeWarp(Protocol):
    """How time is varied; see Augment."""

    @property
    def warp(self) -> float: ...

    @property
    def move(self) -> float: ...

    @property
    def mask(self) -> float: ...


@runtime_checkable
class Timed(Protocol):
    """A target with a frame axis, which must follow where time is warped."""

    def retimed(self, time_BT: Array) -> Any:
        """The target where frame t shows what was at frame `time_BT[:, t]` (fractions allowed)."""
        ...


def similarity(landmarks_BTVC: Array, config: Augment, key: Array) -> Array:
    """One random rotation, size and translation for each clip (in the image plane; depth is scaled)."""
    keys = jax.random.split(key, 3)
    batch = len(landmarks_BTVC)
    angle_B = jnp.deg2rad(config.roll) * jax.random.normal(keys[0], (batch,))
    size_B = jnp.exp(config.scale * jax.random.normal(keys[1], (batch,)))
    shift_BC = config.shift * jax.random.normal(keys[2], (batch, 3))
    cos_B, sin_B, zero_B = jnp.cos(angle_B), jnp.sin(angle_B), jnp.zeros(batch)
    turn_BCC = jnp.stack(
        [
            jnp.stack([cos_B, -sin_B, zero_B], axis=-1),
            jnp.stack([sin_B, cos_B, zero_B], axis=-1),
            jnp.stack([zero_B, zero_B, jnp.ones(batch)], axis=-1),
        ],
        axis=-2,
    )
    turned_BTVC = jnp.einsum("btvc,bdc->btvd", landmarks_BTVC, turn_BCC * size_B[:, None, None])
    return turned_BTVC + shift_BC[:, None, None]


def sheared(landmarks_BTVC: Array, config: Augment, key: Array) -> Array:
    """One random shear and change of width for each clip, in the image plane."""
    keys = jax.random.split(key, 2)
    shear_B = config.shear * jax.random.normal(keys[0], (len(landmarks_BTVC),))
    width_B = jnp.exp(config.stretch * jax.random.normal(keys[1], (len(landmarks_BTVC),)))
    x_BTV, y_BTV, z_BTV = jnp.moveaxis(landmarks_BTVC, -1, 0)
    return jnp.stack([width_B[:, None, None] * x_BTV + shear_B[:, None, None] * y_BTV, y_BTV, z_BTV], axis=-1)


def sped_up(time_BT: Array, config: Augment, key: Array) -> Array:
    """Source times about the middle frame's, each clip's at a rate of its own."""
    middle_B1 = time_BT[:, time_BT.shape[1] // 2][:, None]
    rate_B1 = 1 + config.speed * jax.random.uniform(key, middle_B1.shape, minval=-1.0, maxval=1.0)
    return middle_B1 + rate_B1 * (time_BT - middle_B1)


def warped_times(frames: int, batch: int, config: TimeWarp, key: Array) -> Array:
    """Source time of every frame [B, T], in frames: a smooth monotone warp about the middle, and a shift."""
    keys = jax.random.split(key, 3)
    # A random slope at three points of the clip, linear in between; the middle frame stays but for the shift.
    slope_B3 = config.warp * jax.random.uniform(keys[0], (batch, 3), minval=-1.0, maxval=1.0)
    position_T = np.linspace(0.0, 2.0, frames)
    hats_T3 = np.maximum(0, 1 - np.abs(position_T[:, None] - np.arange(3.0)))
    steps_BT = 1 + slope_B3 @ hats_T3.T.astype(np.float32)
    time_BT = jnp.cumsum(steps_BT, axis=1)
    middle = frames // 2
    shift_B = config.move * jax.random.uniform(keys[1], (batch,), minval=-1.0, maxval=1.0)
    return time_BT - time_BT[:, middle : middle + 1] + middle + shift_B[:, None]


def frozen_times(time_BT: Array, config: TimeWarp, key: Array) -> Array:
    """Source times with one run of frames frozen at the time where the run begins."""
    keys = jax.random.split(key, 2)
    batch, frames = time_BT.shape
    length_B = jax.random.uniform(keys[0], (batch,)) * config.mask * frames
    start_B = jax.random.uniform(keys[1], (batch,)) * (frames - length_B)
    index_1T = jnp.arange(frames)[None]
    inside_BT = (index_1T >= start_B[:, None]) & (index_1T < (start_B + length_B)[:, None])
    first_B = jnp.clip(jnp.floor(start_B), 0, frames - 1).astype(jnp.int32)
    return jnp.where(inside_BT, jnp.take_along_axis(time_BT, first_B[:, None], axis=1), time_BT)


def resample(values_BTVC: Array, frames_BT: Array, time_BT: Array) -> Array:
    """Linear interpolation of [B, T, V, C] at fractional times [B, T], from real frames only, clamped to the clip."""
    frames = values_BTVC.shape[1]
    time_BT = jnp.clip(time_BT, 0, frames - 1)
    before_BT = jnp.minimum(jnp.floor(time_BT).astype(jnp.int32), frames - 2)
    row = jnp.arange(len(values_BTVC))[:, None]
    weight_BT = time_BT - before_BT
    first_BT = (1 - weight_BT) * frames_BT[row, before_BT]
    second_BT = weight_BT * frames_BT[row, before_BT + 1]
    total_BT = jnp.maximum(first_BT + second_BT, 1e-6)
    first_BTVC, second_BTVC = values_BTVC[row, before_BT], values_BTVC[row, before_BT + 1]
    return first_BTVC * (first_BT / total_BT)[..., None, None] + second_BTVC * (second_BT / total_BT)[..., None, None]


def nearest(mask_BT: Array, time_BT: Array) -> Array:
    """A bool mask at the nearest source frame; False outside the clip."""
    index_BT = jnp.round(time_BT).astype(jnp.int32)
    inside_BT = (index_BT >= 0) & (index_BT < mask_BT.shape[1])
    row = jnp.arange(len(mask_BT))[:, None]
    return mask_BT[row, jnp.clip(index_BT, 0, mask_BT.shape[1] - 1)] & inside_BT


def mirrored(landmarks_BTVC: Array, ids: tuple[int, ...], preset: str) -> Array:
    """Left and right exchanged. Raises UserError where the preset's points are not closed under mirroring."""
    rows = np.array(mirror_map(ids, f"preset {preset}"))
    return landmarks_BTVC[:, :, rows] * np.array([[[[-1, 1, 1]]]], np.float32)


def check_flip(config: Augment, preset: str) -> None:
    """Raises UserError if a flip is asked for and the preset's points are not closed under mirroring."""
    if config.flip:
        mirror_map(stored_ids(preset), f"preset {preset}")


def augment(batch, config: Augment, key: Array, *, ids: tuple[int, ...], preset: str):
    """A varied copy of a FaceBatch; landmarks, masks and speech move together.

    Raises UserError if `flip` is asked for and the preset's points are not closed under mirroring.
    """
    keys = jax.random.split(key, 5)
    landmarks_BTVC, target = batch.landmarks_BTVC, batch.target
    masks = {name: getattr(batch, name) for name in ("frames_BT", "detected_BT", "speech_BT")}
    # Younger kinds fold numbers into the key, so that what older configs draw stays the same.
    more = functools.partial(jax.random.fold_in, key)
    if config.warp or config.move or config.mask or config.speed or config.drop:
        time_BT = warped_times(landmarks_BTVC.shape[1], len(landmarks_BTVC), config, keys[0])
        time_BT = sped_up(time_BT, config, more(10)) if config.speed else time_BT
        frozen_BT = dropped_times(time_BT, config.drop, more(11)) if config.drop else time_BT
        for number in range(config.masks if config.mask else 0):
            frozen_BT = frozen_times(frozen_BT, config, keys[1] if number == 0 else jax.random.fold_in(keys[1], number))
        landmarks_BTVC = resample(landmarks_BTVC, batch.frames_BT, frozen_BT)
        masks = {name: nearest(mask_BT, time_BT) for name, mask_BT in masks.items()}
        target = target.retimed(time_BT) if isinstance(target, Timed) else target
    if config.shift or config.scale or config.roll:
        landmarks_BTVC = similarity(landmarks_BTVC, config, keys[2])
    if config.shear or config.stretch:
        landmarks_BTVC = sheared(landmarks_BTVC, config, more(12))
    if config.lose or config.region:
        mean_BVC = mean_landmarks(landmarks_BTVC, masks["frames_BT"])
        lost_BV = lost_landmarks(mean_BVC, config.lose, more(13)) | lost_region(mean_BVC, config.region, more(14))
        landmarks_BTVC = held_still(landmarks_BTVC, mean_BVC, lost_BV)
    if config.flip:
        flipped_BTVC = mirrored(landmarks_BTVC, ids, preset)
        chosen_B = jax.random.bernoulli(keys[3], config.flip, (len(landmarks_BTVC),))
        landmarks_BTVC = jnp.where(chosen_B[:, None, None, None], flipped_BTVC, landmarks_BTVC)
    if config.noise:
        landmarks_BTVC += config.noise * jax.random.normal(keys[4], landmarks_BTVC.shape)
    return dataclasses.replace(batch, landmarks_BTVC=landmarks_BTVC, target=target, **masks)
