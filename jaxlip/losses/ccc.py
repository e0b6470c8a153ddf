"""The concordance loss of several outputs, mixed with their squared errors."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxlip.metrics.moments import Moments, ccc, mean_squared_error


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CccLoss:
    """Mean over dimensions of w (1 - CCC) + (1 - w) MSE, as a statistic that merges.

    Over a whole split it is what it would be over all rows at once, which a mean of batches' losses is not.
    """

    moments: tuple[Moments, ...]
    weights: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    """w of each dimension: 1 for CCC alone, 0 for the squared error alone."""

    def merge(self, other: "CccLoss") -> "CccLoss":
        merged = tuple(a.merge(b) for a, b in zip(self.moments, other.moments, strict=True))
        return CccLoss(merged, self.weights)

    @property
    def value(self) -> Array:
        terms = [
            w * (1 - ccc(moments)) + (1 - w) * mean_squared_error(moments)
            for w, moments in zip(self.weights, self.moments, strict=True)
        ]
        return jnp.stack(terms).mean()

    def result(self) -> float:
        return float(self.value)


def ccc_loss(
    predictions_BA: Float[Array, "B A"],
    targets_BA: Float[Array, "B A"],
    mask_B: Bool[Array, " B"] | Float[Array, " B"],
    *,
    weights: tuple[float, ...],
) -> CccLoss:
    """The loss of a batch over its A dimensions, in float32; `mask_B` chooses or weights its rows.

    Raises ValueError if there are not as many weights as dimensions.
    """
    columns = zip(predictions_BA.T, targets_BA.T, weights, strict=True)
    return CccLoss(tuple(Moments.of(x_B, y_B, mask_B) for x_B, y_B, _ in columns), weights)
