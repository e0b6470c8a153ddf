"""From a sequence to one vector, from a vector to classes, and from every frame to tokens."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.models.linear import Linear
from jaxlip.models.norm import NORMS, Rate


def masked_mean(x_BTD: Float[Array, "B T D"], mask_BT: Bool[Array, "B T"]) -> Float[Array, "B D"]:
    """Mean over the frames of the mask; zero where there is none."""
    weight_BT1 = mask_BT[..., None].astype(x_BTD.dtype)
    return jnp.sum(x_BTD * weight_BT1, axis=1) / jnp.maximum(weight_BT1.sum(axis=1), 1)


def last_real(x_BTD: Float[Array, "B T D"], mask_BT: Bool[Array, "B T"]) -> Float[Array, "B D"]:
    """The last frame of the mask, wherever the padding is; zero where there is none."""
    last_B = mask_BT.shape[1] - 1 - jnp.argmax(mask_BT[:, ::-1], axis=1)
    x_BD = jnp.take_along_axis(x_BTD, last_B[:, None, None], axis=1)[:, 0]
    return jnp.where(mask_BT.any(axis=1)[:, None], x_BD, 0)


class Classifier(nnx.Module):
    """Linear, batch (or layer) norm, ReLU, dropout, Linear."""

    def __init__(
        self,
        fan_in: int,
        hidden: int,
        classes: int,
        dropout: Rate,
        *,
        norm: str = "batch",
        site: int,
        rngs: nnx.Rngs,
    ):
        self.hidden = Linear(fan_in, hidden, rngs=rngs)
        self.norm = NORMS[norm](hidden, rate=dropout, site=site)
        self.out = Linear(hidden, classes, rngs=rngs)

    def __call__(
        self, x_BD: Float[Array, "B D"], examples_B: Bool[Array, " B"], key: Array | None
    ) -> Float[Array, "B K"]:
        hidden_1BH = self.norm(self.hidden(x_BD)[None], examples_B, key)
        return self.out(hidden_1BH[0])


class GatedLogits(NamedTuple):
    """Logits of classes, and the part that each branch of the model has in them (the parts sum to 1)."""

    logits_BK: Float[Array, "B K"]
    gate_BG: Float[Array, "B G"]


class SentenceLogits(NamedTuple):
    """What a sentence model says of every step: logits of the tokens that are read, of whole words (a second CTC), and
    of the word that is being spoken (no blank is meant; for pooling over a word's frames); None for what a model does
    not say.

    `early_BTK` are logits of the tokens from before the recurrent layers, an auxiliary CTC. Steps are the batch's
    frames unless there are fewer: then `steps_BT` says which of them are real.
    """

    tokens_BTK: Float[Array, "B T K"]
    words_BTK: Float[Array, "B T Kw"] | None = None
    spoken_BTK: Float[Array, "B T Kw"] | None = None
    early_BTK: Float[Array, "B T K"] | None = None
    steps_BT: Bool[Array, "B T"] | None = None

    def real(self, frames_BT: Any) -> Any:
        """Which steps are real [B, T], where these frames are [B, frames]; on the host or on the device."""
        return frames_BT if self.steps_BT is None else self.steps_BT


class SentenceHeads(nnx.Module):
    """Three linear maps of the same frames; the second and third only help the first to learn."""

    def __init__(self, fan_in: int, tokens: int, words: int, *, rngs: nnx.Rngs):
        self.tokens = Linear(fan_in, tokens, rngs=rngs)
        self.words = Linear(fan_in, words, rngs=rngs)
        self.spoken = Linear(fan_in, words, rngs=rngs)

    def __call__(self, x_BTD: Float[Array, "B T D"]) -> SentenceLogits:
        return SentenceLogits(self.tokens(x_BTD), self.words(x_BTD), self.spoken(x_BTD))
