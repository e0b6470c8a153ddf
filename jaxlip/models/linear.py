"""Linear maps that compute in the precision of their weights.

Mixed precision casts the weights (`jaxlip.engine.precision`); every layer with weights casts what comes in to match, so
that no product falls back to float32 because one of its sides did.
"""

from typing import Any

from flax import nnx


class Linear(nnx.Linear):
    """`nnx.Linear` in the dtype of its kernel, whatever comes in."""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(inputs.astype(self.kernel.dtype), *args, **kwargs)
