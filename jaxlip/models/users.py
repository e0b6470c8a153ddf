"""What a model knows of single users, shared with those it has never met."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int


class UserTable(nnx.Module):
    """A vector a user: that of the unknown user (row 0) plus the user's own offset, which begins at zero.

    A user without an example keeps exactly the unknown user's vector, whatever row they have, and weight decay shrinks
    what is known of the others towards it. Row 0 is trained by everybody, alone where user dropout hides who writes.
    """

    def __init__(self, users: int, width: int, *, rngs: nnx.Rngs):
        unknown_1E = 0.1 * nnx.initializers.normal(1.0)(rngs.params(), (1, width))
        self.table = nnx.Param(jnp.concatenate([unknown_1E, jnp.zeros((users, width))]))

    def __call__(self, user_B: Int[Array, " B"]) -> Float[Array, "B E"]:
        table_UE = self.table[...]
        offset_BE = jnp.where((user_B > 0)[:, None], table_UE[user_B], 0)
        return table_UE[:1] + offset_BE
