"""The versions 3.0 to 3.4 of the affect model: text, user and history of every entry, an LSTM, attention, two heads."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxlip.config import Component, require
from jaxlip.data.texts import FEATURES, AffectSpec, EntryBatch
from jaxlip.models.attention import SelfAttention
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.heads import last_real
from jaxlip.models.linear import Linear
from jaxlip.models.lstm import BiLstm
from jaxlip.models.norm import Rate, dropout, dropout_seed
from jaxlip.models.users import UserTable

TRUNK = (512, 256)
HEAD = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class AffectLstm(Component):
    """Sizes of an affect model over windows of entries."""

    user: int = 64
    """Width of a user's vector; 0 for a model that knows no users."""
    hidden: int = 256
    """Width of each LSTM direction; the layers around it are twice that."""
    lstm_layers: int = 2
    """Bidirectional LSTM layers."""
    heads: int = 4
    """Heads of the attention."""
    dropout: float = 0.2
    """Dropout rate, everywhere."""

    def __post_init__(self):
        require(self.user >= 0, self, "user", "0 or more")
        for field in ("hidden", "lstm_layers", "heads"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(2 * self.hidden % self.heads == 0, self, "heads", f"a divisor of {2 * self.hidden}, twice `hidden`")
        require(0 <= self.dropout < 1, self, "dropout", "in [0, 1)")

    def build(self, spec: AffectSpec) -> Model:
        return from_nnx(lambda rngs: AffectLstmModule(self, spec, rngs=rngs))


class AffectHeads(nnx.Module):
    """Two layers for all dimensions, then a small network for each; gives labels in their own units."""

    def __init__(self, fan_in: int, middle: tuple[float, ...], rate: Rate, *, site: int, rngs: nnx.Rngs):
        sizes = (fan_in, *TRUNK)
        self.trunk = nnx.List([Linear(a, b, rngs=rngs) for a, b in zip(sizes, sizes[1:], strict=False)])
        self.norms = nnx.List([nnx.LayerNorm(size, epsilon=1e-5, rngs=rngs) for size in TRUNK])
        self.hidden = nnx.List([Linear(TRUNK[-1], HEAD, rngs=rngs) for _ in middle])
        self.out = nnx.List([Linear(HEAD, 1, rngs=rngs) for _ in middle])
        self.middle, self.rate, self.site = middle, rate, site

    def __call__(self, x_BD: Float[Array, "B D"], key: Array | None) -> Float[Array, "B A"]:
        for i, (linear, norm) in enumerate(zip(self.trunk, self.norms, strict=True)):
            x_BD = jax.nn.gelu(norm(linear(x_BD)))
            if key is not None:
                x_BD = dropout(x_BD, dropout_seed(key, self.site + i), self.rate)
        columns = [out(jax.nn.gelu(hidden(x_BD))) for hidden, out in zip(self.hidden, self.out, strict=True)]
        return jnp.concatenate(columns, axis=-1) + jnp.array(self.middle)[None]


class AffectLstmModule(nnx.Module):
    def __init__(self, config: AffectLstm, spec: AffectSpec, *, rngs: nnx.Rngs):
        width, rate = 2 * config.hidden, config.dropout
        self.users = UserTable(len(spec.users), config.user, rngs=rngs) if config.user else None
        self.project = Linear(spec.text + config.user + len(FEATURES), width, rngs=rngs)
        self.lstm = BiLstm(width, config.hidden, config.lstm_layers, rate, site=100, rngs=rngs)
        self.attention = SelfAttention(width, config.heads, rate, site=200, rngs=rngs)
        self.heads = AffectHeads(width, spec.scale.middle, rate, site=300, rngs=rngs)
        self.rate = rate

    def __call__(self, batch: EntryBatch, key: Array | None) -> Float[Array, "B A"]:
        real_BT = batch.entries_BT
        parts = [batch.text_BTD, batch.features_BTD]
        if self.users is not None:
            user_BE = self.users(batch.user_B)
            parts.insert(1, jnp.broadcast_to(user_BE[:, None], (*real_BT.shape, user_BE.shape[-1])))
        x_BTH = jnp.where(real_BT[..., None], self.project(jnp.concatenate(parts, axis=-1)), 0)
        if key is not None:
            x_BTH = dropout(x_BTH, dropout_seed(key, 0), self.rate)
        heard_BTH = self.attention(self.lstm(x_BTH, real_BT, key), real_BT, key)
        return self.heads(last_real(heard_BTH, real_BT), key)
