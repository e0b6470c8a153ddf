"""Our best affect model: the entry's text, its user and history, standardised, through one wide layer beside none.

No recurrence: what the window holds beyond the causal features has not been found to help, and a linear map with heavy
input dropout is what ridge regression is, trained on the concordance instead of the squared error.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxlip.config import Component, require
from jaxlip.data.texts import FEATURES, AffectSpec, EntryBatch
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.heads import last_real
from jaxlip.models.linear import Linear
from jaxlip.models.norm import FrameNorm, dropout, dropout_seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class AffectMlp(Component):
    """Sizes of an affect model of single entries."""

    user: int = 16
    """Width of a user's vector; 0 for a model that knows no users."""
    hidden: int = 256
    """Width of the one hidden layer."""
    input_dropout: float = 0.5
    """Dropout of the text's vector."""
    dropout: float = 0.5
    """Dropout of the hidden layer."""

    def __post_init__(self):
        require(self.user >= 0, self, "user", "0 or more")
        require(self.hidden >= 1, self, "hidden", "1 or more")
        for field in ("input_dropout", "dropout"):
            require(0 <= getattr(self, field) < 1, self, field, "in [0, 1)")

    def build(self, spec: AffectSpec) -> Model:
        return from_nnx(lambda rngs: AffectMlpModule(self, spec, rngs=rngs))


class TwoAnswers(NamedTuple):
    """What is said of each entry [B, 2] knowing who wrote it, and what would be said of anyone's."""

    user_BA: Float[Array, "B A"]
    anyone_BA: Float[Array, "B A"]


class AffectMlpModule(nnx.Module):
    """What is said of anyone is learned as if nobody were known: no gradient comes back from what users add to it (the
    clipping of gradients and the choice of the best epoch look at both).

    A user's vector begins at zero, adds nothing there, and is the only thing that is new to the second answer: users
    who were not trained on get the first, which no user table has made worse.
    """

    def __init__(self, config: AffectMlp, spec: AffectSpec, *, rngs: nnx.Rngs):
        width = spec.text + len(FEATURES)
        self.norm = FrameNorm(spec.text)
        self.hidden = Linear(width, config.hidden, rngs=rngs)
        self.out = Linear(config.hidden, 2, rngs=rngs)
        self.straight = Linear(width, 2, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.user = _UserEffect(len(spec.users), config, rngs) if config.user and spec.users else None
        self.config, self.middle = config, spec.scale.middle

    def __call__(self, batch: EntryBatch, key: Array | None) -> TwoAnswers | Float[Array, "B A"]:
        text_BD, features_BD = (last_real(x_BTD, batch.entries_BT) for x_BTD in (batch.text_BTD, batch.features_BTD))
        text_BD = self.norm(text_BD[:, None], batch.examples_B[:, None], key)[:, 0]
        if key is not None:
            text_BD = dropout(text_BD, dropout_seed(key, 0), self.config.input_dropout)
        x_BD = jnp.concatenate([text_BD, features_BD], axis=-1)
        hidden_BH = jax.nn.gelu(self.hidden(x_BD))
        if key is not None:
            hidden_BH = dropout(hidden_BH, dropout_seed(key, 1), self.config.dropout)
        off_middle_BA = self.out(hidden_BH) + self.straight(x_BD)
        anyone_BA = off_middle_BA + jnp.array(self.middle)[None]
        if self.user is None:
            return anyone_BA
        known = jax.lax.stop_gradient((hidden_BH, off_middle_BA, anyone_BA))
        return TwoAnswers(known[2] + self.user(batch.user_B, *known[:2]), anyone_BA)


class _UserEffect(nnx.Module):
    """A user's level, how strongly (or to the opposite) their words are meant, and which of them."""

    def __init__(self, users: int, config: AffectMlp, rngs: nnx.Rngs):
        self.table = nnx.Param(jnp.zeros((users + 1, config.user)))
        self.level = Linear(config.user, 2, use_bias=False, rngs=rngs)
        self.gain = Linear(config.user, 2, use_bias=False, rngs=rngs)
        self.meaning = Linear(config.user, config.hidden, use_bias=False, rngs=rngs)
        self.out = Linear(config.hidden, 2, use_bias=False, rngs=rngs)

    def __call__(self, user_B: Array, hidden_BH: Array, off_middle_BA: Array) -> Float[Array, "B A"]:
        user_BE = jnp.where((user_B > 0)[:, None], self.table[...][user_B], 0)
        return self.level(user_BE) + self.gain(user_BE) * off_middle_BA + self.out(self.meaning(user_BE) * hidden_BH)
