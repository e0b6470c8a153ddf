"""Our best affect model: the entry's text, its user and history, standardised, through one wide layer beside none.

No recurrence: what the window holds beyond the causal features has not been found to help, and a linear map with heavy
input dropout is what ridge regression is, trained on the concordance instead of the squared error.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxlip.config import Component, require
from jaxlip.data.texts import FEATURES, AffectSpec, EntryBatch
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.heads import last_real
from jaxlip.models.norm import FrameNorm, dropout, dropout_seed
from jaxlip.models.users import UserTable


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


class AffectMlpModule(nnx.Module):
    def __init__(self, config: AffectMlp, spec: AffectSpec, *, rngs: nnx.Rngs):
        width = spec.text + len(FEATURES) + config.user
        self.norm = FrameNorm(spec.text)
        self.users = UserTable(len(spec.users), config.user, rngs=rngs) if config.user else None
        self.hidden = nnx.Linear(width, config.hidden, rngs=rngs)
        self.out = nnx.Linear(config.hidden, 2, rngs=rngs)
        self.straight = nnx.Linear(width, 2, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.meaning = nnx.Linear(config.user, config.hidden, rngs=rngs) if config.user else None
        self.config, self.middle = config, spec.scale.middle

    def __call__(self, batch: EntryBatch, key: Array | None) -> Float[Array, "B A"]:
        text_BD, features_BD = (last_real(x_BTD, batch.entries_BT) for x_BTD in (batch.text_BTD, batch.features_BTD))
        text_BD = self.norm(text_BD[:, None], batch.examples_B[:, None], key)[:, 0]
        if key is not None:
            text_BD = dropout(text_BD, dropout_seed(key, 0), self.config.input_dropout)
        user_BE = [] if self.users is None else [self.users(batch.user_B)]
        x_BD = jnp.concatenate([text_BD, features_BD, *user_BE], axis=-1)
        hidden_BH = jax.nn.gelu(self.hidden(x_BD))
        if self.meaning is not None:
            # The same words mean more, less or the opposite to different people: a product, which no sum can say.
            hidden_BH = hidden_BH * (1 + self.meaning(user_BE[0]))
        if key is not None:
            hidden_BH = dropout(hidden_BH, dropout_seed(key, 1), self.config.dropout)
        return self.out(hidden_BH) + self.straight(x_BD) + jnp.array(self.middle)[None]
