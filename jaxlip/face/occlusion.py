"""What a tracker loses, in training clips: frames that it drops, landmarks and whole regions that it holds still."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def dropped_times(time_BT: Float[Array, "B T"], rate: float, key: Array) -> Float[Array, "B T"]:
    """Source times where each frame but the first is dropped with this probability: it repeats the last that is not."""
    kept_BT = jax.random.uniform(key, time_BT.shape) >= rate
    index_BT = jnp.where(kept_BT.at[:, 0].set(True), jnp.arange(time_BT.shape[1])[None], 0)
    return jnp.take_along_axis(time_BT, jax.lax.cummax(index_BT, axis=1), axis=1)


def lost_landmarks(mean_BVC: Float[Array, "B V C"], part: float, key: Array) -> Bool[Array, "B V"]:
    """Each landmark with this probability."""
    return jax.random.uniform(key, mean_BVC.shape[:2]) < part


def lost_region(mean_BVC: Float[Array, "B V C"], part: float, key: Array) -> Bool[Array, "B V"]:
    """A random landmark and those around it, up to this part of all."""
    keys = jax.random.split(key, 2)
    batch, landmarks = mean_BVC.shape[:2]
    centre_B = jax.random.randint(keys[0], (batch,), 0, landmarks)
    away_BVC = mean_BVC - mean_BVC[jnp.arange(batch), centre_B][:, None]
    rank_BV = jnp.argsort(jnp.argsort(jnp.square(away_BVC).sum(axis=-1), axis=1), axis=1)
    return rank_BV < jnp.floor(jax.random.uniform(keys[1], (batch, 1)) * part * landmarks)


def mean_landmarks(landmarks_BTVC: Float[Array, "B T V C"], frames_BT: Bool[Array, "B T"]) -> Float[Array, "B V C"]:
    """Where each landmark is on average over real frames."""
    weight_BT11 = frames_BT[..., None, None].astype(landmarks_BTVC.dtype)
    return jnp.sum(landmarks_BTVC * weight_BT11, axis=1) / jnp.maximum(weight_BT11.sum(axis=1), 1)


def held_still(
    landmarks_BTVC: Float[Array, "B T V C"], mean_BVC: Float[Array, "B V C"], lost_BV: Bool[Array, "B V"]
) -> Float[Array, "B T V C"]:
    """The clip with lost landmarks at their means."""
    return jnp.where(lost_BV[:, None, :, None], mean_BVC[:, None], landmarks_BTVC)
