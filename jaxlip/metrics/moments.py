"""Moments of pairs, merged exactly over batches and devices, and what follows from them: CCC, Pearson's r, errors.

One convention throughout: biased moments (divided by the weight). With unbiased variances beside a biased covariance, a
perfect batch of 10 would score .90.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

TINY = 1e-12
"""Spread (in squared units of the values) below which values are taken to be all the same."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    """Weight `n`, means `x` and `y`, and the weighted sums `xx`, `yy`, `xy` of products of deviations from them.

    Centred sums, merged by the formulas of Chan, Golub and LeVeque (1979), since raw ones lose their digits where the
    mean is large beside the spread (labels around 3 with a deviation of .3, in single precision).
    """

    n: Any
    x: Any
    y: Any
    xx: Any
    yy: Any
    xy: Any

    @classmethod
    def of(
        cls, x_N: Float[Array, " N"], y_N: Float[Array, " N"], mask_N: Bool[Array, " N"] | Float[Array, " N"]
    ) -> "Moments":
        """Moments of the pairs of the mask, or weighted by it. What is masked may be anything, NaN too."""
        # Masked before it is computed with: a NaN that is cut off afterwards would still spoil the gradient.
        x_N, y_N = (jnp.where(mask_N > 0, v, 0).astype(jnp.float32) for v in (x_N, y_N))
        weight_N = mask_N.astype(jnp.float32)
        n = weight_N.sum()
        least = n + (n == 0)
        x, y = jnp.sum(weight_N * x_N) / least, jnp.sum(weight_N * y_N) / least
        dx_N, dy_N = x_N - x, y_N - y
        return cls(n, x, y, *(jnp.sum(weight_N * d_N) for d_N in (dx_N * dx_N, dy_N * dy_N, dx_N * dy_N)))

    def merge(self, other: "Moments") -> "Moments":
        n = self.n + other.n
        share = other.n / (n + (n == 0))
        dx, dy, between = other.x - self.x, other.y - self.y, self.n * share
        return Moments(
            n,
            self.x + share * dx,
            self.y + share * dy,
            self.xx + other.xx + between * dx * dx,
            self.yy + other.yy + between * dy * dy,
            self.xy + other.xy + between * dx * dy,
        )


def mean_squared_error(moments: Moments) -> Array:
    """Mean of (x - y)^2; 0 where there is no pair."""
    n = jnp.maximum(moments.n, TINY)
    return (moments.xx + moments.yy - 2 * moments.xy) / n + jnp.square(moments.x - moments.y)


def ccc(moments: Moments) -> Array:
    """Concordance correlation coefficient, 2 cov / (var x + var y + (mean x - mean y)^2) (Lin, Biometrics 45, 1989).

    Written as 1 - MSE / (var x + var y + (mean x - mean y)^2), which is the same and 1 for perfect agreement even where
    nothing varies. One pair that does not agree scores 0; where both are constant and equal it is 1, without gradient.
    """
    n = jnp.maximum(moments.n, TINY)
    spread = (moments.xx + moments.yy) / n + jnp.square(moments.x - moments.y)
    varies = spread > TINY
    # Divided by something harmless where it would be 0 / 0: `where` alone leaves NaN in the gradient.
    return jnp.where(varies, 1 - mean_squared_error(moments) / jnp.where(varies, spread, 1), 1.0)


def pearson(moments: Moments) -> Array:
    """Pearson's correlation; 0 where one side does not vary."""
    product = moments.xx * moments.yy
    varies = product > jnp.square(TINY * jnp.maximum(moments.n, TINY))
    return jnp.where(varies, moments.xy / jnp.sqrt(jnp.where(varies, product, 1)), 0.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ccc:
    """A CCC that can be merged."""

    moments: Moments

    def merge(self, other: "Ccc") -> "Ccc":
        return Ccc(self.moments.merge(other.moments))

    @property
    def value(self) -> Array:
        return ccc(self.moments)

    def result(self) -> float:
        return float(self.value)
