"""What a compiled function asks of a machine, what the machine can give, and which of the two rates binds.

S. Williams, A. Waterman and D. Patterson, "Roofline", Communications of the ACM 52(4), 2009.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp

BINDS = 0.5
"""Part of the time that the slower of bytes and operations must explain to be what binds."""
SIDE = {"cpu": 1024, "gpu": 8192, "tpu": 8192}
"""Of the matrices whose product is timed."""
MIB = {"cpu": 128, "gpu": 1024, "tpu": 1024}
"""Of the array whose copy is timed: more than any cache holds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Measured rates of the first device."""

    dtype: str
    """Of the matrices."""
    copy_bytes: float
    """Bytes a second, read and written, of copying a large array."""
    matmul_flops: float
    """Floating-point operations a second of a large matrix product."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one call of a function asks for, by XLA's count; loops are counted as often as they run.

    Bytes are those that pass between XLA's fused operations, whether a cache holds them or not.
    """

    flops: float
    bytes: float


def median_seconds(run: Callable[[], Any], budget: float) -> float:
    """Median time of a call, of as many as the budget in seconds allows: 3 to 100, after one that is not counted."""
    jax.block_until_ready(run())
    took: list[float] = []
    while len(took) < 3 or (sum(took) < budget and len(took) < 100):
        began = time.perf_counter()
        jax.block_until_ready(run())
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def measure_machine(dtype: str, *, budget: float = 1.0) -> Machine:
    """Times a copy and a matrix product for about `budget` seconds each."""
    platform = jax.default_backend()
    side, numbers = SIDE.get(platform, 1024), MIB.get(platform, 128) * 2**20 // 4
    array_N = jnp.zeros(numbers, jnp.float32)
    copy = jax.jit(lambda array: array + 1)
    matrix = jnp.ones((side, side), dtype)
    product = jax.jit(lambda matrix: matrix @ matrix)
    return Machine(
        dtype=dtype,
        copy_bytes=2 * array_N.nbytes / median_seconds(lambda: copy(array_N), budget),
        matmul_flops=2 * side**3 / median_seconds(lambda: product(matrix), budget),
    )


def compile_and_count(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Work]:
    """A jitted function compiled for such arguments (arrays or their shapes), and what a call of it asks for.

    A loop whose number of turns is data counts as one turn.
    """
    traced = function.trace(*arguments)  # type: ignore[attr-defined]
    compiled, total = _compile(traced)
    for more, body in _scans(traced.jaxpr.jaxpr):
        shapes = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in body.jaxpr.invars]
        _, turn = _compile(jax.jit(jax.extend.core.jaxpr_as_fun(body)).trace(*shapes))
        total = Work(total.flops + more * turn.flops, total.bytes + more * turn.bytes)
    return compiled, total


def _compile(traced: Any) -> tuple[Any, Work]:
    """The program, and what XLA counts of it, which is one turn of every loop."""
    lowered = traced.lower()
    compiled = lowered.compile()
    seen = _costs(compiled.cost_analysis())
    # Where a library makes the products, as on a GPU, they are no longer seen in the compiled program.
    return compiled, Work(max(seen.flops, _costs(lowered.cost_analysis()).flops), seen.bytes)


def _costs(analysis: Any) -> Work:
    # One dict, or one for every device's program; None where a backend does not count.
    said = (analysis[0] if isinstance(analysis, list | tuple) else analysis) or {}
    return Work(max(said.get("flops", 0.0), 0.0), max(said.get("bytes accessed", 0.0), 0.0))


def _scans(jaxpr: Any, times: int = 1) -> list[tuple[int, Any]]:
    """The body of every scan, and how many of its turns are not counted yet; bodies within bodies too."""
    found = []
    for equation in jaxpr.eqns:
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else (value,):
                if isinstance(inner, jax.extend.core.ClosedJaxpr):
                    found += [(times * (turns - 1), inner)] if turns > 1 else []
                    found += _scans(inner.jaxpr, times * turns)
                elif isinstance(inner, jax.extend.core.Jaxpr):
                    found += _scans(inner, times * turns)
    return found


def least_seconds(asked: Work, machine: Machine) -> tuple[float, float]:
    """The least time that its bytes and its operations would need on the machine."""
    return asked.bytes / machine.copy_bytes, asked.flops / machine.matmul_flops


def what_binds(asked: Work, machine: Machine, seconds: float) -> str:
    """memory or arithmetic, whichever needs longer; latency where both explain less than half of the time, as with
    small operations that wait for each other."""
    memory, arithmetic = least_seconds(asked, machine)
    if max(memory, arithmetic) < BINDS * seconds or not math.isfinite(seconds):
        return "latency"
    return "memory" if memory > arithmetic else "arithmetic"
