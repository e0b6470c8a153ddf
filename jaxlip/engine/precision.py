"""Mixed precision (Micikevicius et al., ICLR 2018): models compute in half precision what they multiply; parameters,
statistics, losses and the optimiser stay in float32.

bfloat16 has the range of float32 and needs nothing more. float16 has not: gradients below 6e-8 would be zero, so the
loss is scaled up before its gradient is taken, by a factor that grows until something overflows.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxlip.models.base import Flat, Model

FIRST_SCALE = 2.0**15
GROWTH_STEPS = 1000
"""Steps without an overflow before the scale is doubled."""
HIGHEST_SCALE = 2.0**24


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
    """What the loss is multiplied by before its gradient is taken: `value` f32, and `good` int32, steps without an
    overflow since it last changed. Kept with checkpoints."""

    value: Any
    good: Any

    @classmethod
    def first(cls) -> "LossScale":
        return cls(jnp.asarray(FIRST_SCALE, jnp.float32), jnp.zeros((), jnp.int32))

    @property
    def exhausted(self) -> Array:
        """Whether an overflow is no longer one of the scale: the loss itself is not finite."""
        return self.value <= 1

    def after(self, finite: Array) -> "LossScale":
        """The scale after a step whose gradient was finite, or was not."""
        grows = self.good + 1 >= GROWTH_STEPS
        grown = jnp.where(grows, jnp.minimum(2 * self.value, HIGHEST_SCALE), self.value)
        value = jnp.where(finite, grown, jnp.maximum(self.value / 2, 1))
        return LossScale(value, jnp.where(finite & ~grows, self.good + 1, 0))


def precision_of(asked: str, device: Any = None) -> str:
    """The precision meant by "auto" on a device (default: the first): float32 on CPU, bfloat16 on TPUs and on GPUs that
    know it (compute capability 8 and later), float16 on older ones such as the T4."""
    if asked != "auto":
        return asked
    device = device or jax.devices()[0]
    if device.platform == "cpu":
        return "float32"
    capability = getattr(device, "compute_capability", None)
    return "float16" if capability and float(capability) < 8 else "bfloat16"


def may_scale(asked: str) -> bool:
    """Whether a state of this precision holds a `LossScale`: one that began with "auto" may be resumed on a device that
    needs it."""
    return asked != "float32"


def computing_in(model: Model, precision: str) -> Model:
    """The model with its parameters cast to the precision, and outputs and state as they were. Every layer computes in
    the precision of its weights, and takes means and variances in float32."""
    if precision == "float32":
        return model
    dtype = jnp.dtype(precision)

    def apply(params: Flat, state: Flat, batch: Any, key: Array | None) -> tuple[Any, Flat]:
        outputs, new_state = model.apply(_cast(params, jnp.float32, dtype), state, batch, key)
        new_state = {name: value.astype(state[name].dtype) for name, value in new_state.items()}
        return _cast(outputs, dtype, jnp.float32), new_state

    return Model(model.init, apply)


def _cast(tree: Any, old: Any, new: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(new) if leaf.dtype == old else leaf, tree)


def chosen(finite: Array, new: Any, old: Any) -> Any:
    """The new tree where the step was finite, else the old one."""
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
