"""Training examples mixed with each other, inside jit: batches and their soft targets."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxlip.config import Component, require
from jaxlip.losses.soft_targets import SoftTarget

MASKS = ("frames_BT", "detected_BT", "speech_BT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mix(Component):
    """How many examples are mixed with another of their batch, and how strongly; at most one way an example."""

    mixup: float = 0.0
    """Part of the examples that become a blend of two (Zhang et al., ICLR 2018), targets too."""
    cutmix: float = 0.0
    """Part of the examples of which a stretch of time is another's, targets too (Yun et al., ICCV 2019)."""
    same_class: float = 0.0
    """Part of the examples that become a blend with another of the same word, where the batch has one."""
    alpha: float = 0.4
    """Shares are drawn from Beta(alpha, alpha): small values leave one of the two nearly alone."""

    def __post_init__(self):
        for field in ("mixup", "cutmix", "same_class"):
            require(0 <= getattr(self, field) <= 1, self, field, "in [0, 1]")
        require(self.mixup + self.cutmix + self.same_class <= 1, self, "mixup", "at most 1 together with the others")
        require(self.alpha > 0, self, "alpha", "positive")

    @property
    def on(self) -> bool:
        return self.mixup + self.cutmix + self.same_class > 0


def same_class_partner(class_B: Int[Array, " B"], real_B: Bool[Array, " B"], key: Array) -> Int[Array, " B"]:
    """For every example a random other real one of its class; itself where there is none."""
    batch = len(class_B)
    fits_BB = (class_B[:, None] == class_B[None]) & real_B[None] & ~jnp.eye(batch, dtype=bool)
    score_BB = jnp.where(fits_BB, jax.random.uniform(key, (batch, batch)), -1.0)
    return jnp.where(fits_BB.any(axis=1), score_BB.argmax(axis=1), jnp.arange(batch))


def mix(batch: Any, target: SoftTarget, config: Mix, key: Array) -> tuple[Any, SoftTarget]:
    """A batch of which some examples are mixed with others, and its targets.

    Landmarks are normalised, so that a blend of two faces is a face; a frame counts if it is real in both. An example
    of padding is neither mixed nor mixed in.
    """
    keys = jax.random.split(key, 5)
    real_B, (size, frames) = batch.examples_B, batch.frames_BT.shape
    kind_B = jax.random.uniform(keys[0], (size,))
    other_B = jax.random.permutation(keys[1], size)
    twin_B = same_class_partner(target.odds_BK.argmax(axis=1), real_B, keys[2])
    same_B = (kind_B >= 1 - config.same_class) & (config.same_class > 0)
    partner_B = jnp.where(same_B, twin_B, other_B)
    partner_B = jnp.where(real_B[partner_B], partner_B, jnp.arange(size))
    cut_B = (kind_B >= config.mixup) & (kind_B < config.mixup + config.cutmix)
    blend_B = ((kind_B < config.mixup) | same_B) & real_B
    share_B = jax.random.beta(keys[3], config.alpha, config.alpha, (size,)).astype(jnp.float32)
    start_B = jax.random.uniform(keys[4], (size,)) * share_B
    position_1T = ((jnp.arange(frames) + 0.5) / frames)[None]
    cut_B = cut_B & real_B
    # The stretch [start, start + 1 - share) of the clip is the other's.
    inside_BT = (position_1T >= start_B[:, None]) & (position_1T < (start_B + 1 - share_B)[:, None]) & cut_B[:, None]
    own_BT = jnp.where(blend_B[:, None], share_B[:, None], jnp.where(inside_BT, 0.0, 1.0))
    landmarks_BTVC = _weighted(batch.landmarks_BTVC, partner_B, own_BT)
    masks = {}
    for name in MASKS:
        mine_BT = getattr(batch, name)
        theirs_BT = mine_BT[partner_B]
        both_BT = mine_BT | theirs_BT if name == "speech_BT" else mine_BT & theirs_BT
        masks[name] = jnp.where(blend_B[:, None], both_BT, jnp.where(inside_BT, theirs_BT, mine_BT))
    own_B1 = own_BT.mean(axis=1, keepdims=True)
    odds_BK = own_B1 * target.odds_BK + (1 - own_B1) * target.odds_BK[partner_B]
    weight_B = own_B1[:, 0] * target.weight_B + (1 - own_B1[:, 0]) * target.weight_B[partner_B]
    mixed = dataclasses.replace(batch, landmarks_BTVC=landmarks_BTVC, **masks)
    return mixed, SoftTarget(odds_BK=odds_BK, weight_B=weight_B)


def _weighted(
    x_BTVC: Float[Array, "B T V C"], partner_B: Int[Array, " B"], own_BT: Float[Array, "B T"]
) -> Float[Array, "B T V C"]:
    own_BT11 = own_BT[..., None, None]
    # Not a blend with weight 0, which would make a NaN of the other one's.
    theirs_BTVC = jnp.where(own_BT11 < 1, x_BTVC[partner_B], 0)
    return own_BT11 * x_BTVC + (1 - own_BT11) * theirs_BTVC
