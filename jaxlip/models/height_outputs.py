"""What a model says of codes."""

from typing import NamedTuple

from jaxtyping import Array, Float


class HeightOutputs(NamedTuple):
    """log2 of the height of every group, and, of a mixture, what its gate gave each expert (else None)."""

    log2_BG: Float[Array, "B G"]
    gates_BGE: Float[Array, "B G E"] | None
