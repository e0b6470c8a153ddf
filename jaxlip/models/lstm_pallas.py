"""The LSTM's recurrence as one GPU kernel each way (Pallas, Triton).

A scan on a GPU costs a few launches a frame; here one program a direction and sixteen examples loops over the frames
itself, with state and cell in registers and the recurrent weights, which are the same in every frame, read from the L2
cache. Tested in interpret mode, lowered for CUDA and assembled for sm_90; it has NOT RUN ON A GPU YET, which is why the
automatic choice (`jaxlip.engine.lstm_choice`) compares its values with the scan's before it looks at the times.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlip.models.lstm_scan import shifted, weight_gradient

# A hidden axis is cut in chunks of C units, and padded to a whole number of them; N of them make H. Unlike whole rows,
# which Triton wants padded to a power of two, chunks of 64 fit the usual sizes, and their products fit shared memory.

BLOCK_B = 16
"""Examples a program, the fewest that a product on tensor cores takes."""
TYPES = ("float32", "bfloat16", "float16")
LARGEST = 256
"""Units above which states, cells and the weights on their way do not fit registers and shared memory."""
WARPS = 8
"""Of one program; with four, the compiler spills kilobytes a thread."""


def _chunk(hidden: int) -> int:
    return next((size for size in (16, 32) if hidden <= size), 64)


def _dot(a, b):
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


def _ahead(loads: Sequence[Callable[[], Any]]) -> Iterator[Any]:
    """What each gives, the next one already on its way: a program that waits for every read of the L2 cache does little
    else, and no compiler moves a read over the barriers of a product."""
    coming = loads[0]()
    for load in [*loads[1:], None]:
        here, coming = coming, load and load()
        yield here


def _forward_kernel(pre_ref, real_ref, weight_ref, h_ref, *kept_refs, chunk):
    """Refs: pre [T, B, 4, H], real [T, B] integers, weight [4, H, H] from rows to columns; out: h [T, B, H], and with
    what the gradient needs: c [T, B, H], gates [T, B, 4, H]."""
    columns = [slice(start, start + chunk) for start in range(0, h_ref.shape[2], chunk)]
    kind = h_ref.dtype

    def read(gate, column):
        return [weight_ref[gate, row, column] for row in columns]

    def frame(t, state):
        h_N, c_N = state
        real_B1 = (real_ref[t] != 0)[:, None]
        weights = _ahead([lambda g=g, col=col: read(g, col) for col in columns for g in range(4)])
        new_h_N, new_c_N = [], []
        for n, column in enumerate(columns):
            pre = []
            for gate in range(4):
                sum_BC = pre_ref[t, :, gate, column].astype(jnp.float32)
                for h_BC, weight_CC in zip(h_N, next(weights), strict=True):
                    sum_BC += _dot(h_BC, weight_CC)
                pre.append(sum_BC)
            i, f, g, o = jax.nn.sigmoid(pre[0]), jax.nn.sigmoid(pre[1]), jnp.tanh(pre[2]), jax.nn.sigmoid(pre[3])
            c_BC = f * c_N[n] + i * g
            h_BC = (o * jnp.tanh(c_BC)).astype(kind)
            c_BC, h_BC = jnp.where(real_B1, c_BC, c_N[n]), jnp.where(real_B1, h_BC, h_N[n])
            h_ref[t, :, column] = h_BC
            if kept_refs:
                kept_refs[0][t, :, column] = c_BC
                for gate, value in enumerate((i, f, g, o)):
                    kept_refs[1][t, :, gate, column] = value.astype(kind)
            new_h_N.append(h_BC)
            new_c_N.append(c_BC)
        return tuple(new_h_N), tuple(new_c_N)

    shape_BC = (h_ref.shape[1], chunk)
    first = tuple(tuple(jnp.zeros(shape_BC, dtype) for _ in columns) for dtype in (kind, jnp.float32))
    jax.lax.fori_loop(0, h_ref.shape[0], frame, first)


def _backward_kernel(d_h_ref, c_ref, before_ref, gates_ref, real_ref, weight_ref, d_pre_ref, *, chunk):
    """Refs: gradient of h, c, and c one frame before [T, B, H], gates [T, B, 4, H], real [T, B], weight [4, H, H] from
    columns to rows; out: d_pre [T, B, 4, H]."""
    size_T = d_h_ref.shape[0]
    columns = [slice(start, start + chunk) for start in range(0, d_h_ref.shape[2], chunk)]
    kind = d_pre_ref.dtype

    def read(gate, column):
        return [weight_ref[gate, column, row] for row in columns]

    def frame(back, carry):
        t = size_T - 1 - back
        weights = _ahead([lambda g=g, col=col: read(g, col) for col in columns for g in range(4)])
        later_h_N, later_c_N = carry
        real_B1 = (real_ref[t] != 0)[:, None]
        d_h_N = [d_h_ref[t, :, col].astype(jnp.float32) + later for col, later in zip(columns, later_h_N, strict=True)]
        through_N = [jnp.zeros_like(d_h) for d_h in d_h_N]
        d_c_N = []
        for column, d_h, later_c in zip(columns, d_h_N, later_c_N, strict=True):
            i, f, g, o = (gates_ref[t, :, gate, column].astype(jnp.float32) for gate in range(4))
            tanh_c = jnp.tanh(c_ref[t, :, column])
            d_c = later_c + d_h * o * (1 - tanh_c * tanh_c)
            d_f = d_c * before_ref[t, :, column] * f * (1 - f)
            d_gates = (d_c * g * i * (1 - i), d_f, d_c * i * (1 - g * g), d_h * tanh_c * o * (1 - o))
            for gate, d_gate in enumerate(d_gates):
                d_pre = jnp.where(real_B1, d_gate, 0.0).astype(kind)
                d_pre_ref[t, :, gate, column] = d_pre
                through_N = [sum_BC + _dot(d_pre, w) for sum_BC, w in zip(through_N, next(weights), strict=True)]
            d_c_N.append(jnp.where(real_B1, d_c * f, later_c))
        before_h_N = [jnp.where(real_B1, through, d_h) for through, d_h in zip(through_N, d_h_N, strict=True)]
        return tuple(before_h_N), tuple(d_c_N)

    zeros_N = tuple(jnp.zeros((d_h_ref.shape[1], chunk), jnp.float32) for _ in columns)
    jax.lax.fori_loop(0, size_T, frame, (zeros_N, zeros_N))


def _run(kernel, inputs, weight_G4HH, outputs, *, interpret):
    """A kernel over all directions and blocks of examples. `inputs` and `outputs` are [T, G, B, ...]."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    size_G, size_H = weight_G4HH.shape[0], weight_G4HH.shape[2]
    blocks = inputs[0].shape[2] // BLOCK_B

    def block(array):
        size_T, _, _, *rest = array.shape
        # One grid axis for both: a GPU has three, and each `vmap` adds one.
        index = lambda p: (0, p // blocks, p % blocks, *[0] * len(rest))  # noqa: E731
        return pl.BlockSpec((size_T, None, BLOCK_B, *rest), index)

    weights = pl.BlockSpec((None, *weight_G4HH.shape[1:]), lambda p: (p // blocks, 0, 0, 0))
    return pl.pallas_call(
        functools.partial(kernel, chunk=_chunk(size_H)),
        grid=(size_G * blocks,),
        in_specs=[*map(block, inputs), weights],
        out_specs=[*map(block, outputs)],
        out_shape=outputs,
        interpret=interpret,
        # The other GPU backend of Pallas needs a Hopper. Products of a frame wait for those of the last: no pipeline.
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
    )(*inputs, weight_G4HH)


def _padded(x, axes: dict[int, int]):
    """Zeros behind the array, to these sizes of these axes."""
    return jnp.pad(x, [(0, axes.get(axis, size) - size) for axis, size in enumerate(x.shape)])


def _sizes(hidden: int, examples: int) -> tuple[int, int]:
    """Units and examples, padded."""
    chunk = _chunk(hidden)
    return -(-hidden // chunk) * chunk, -(-examples // BLOCK_B) * BLOCK_B


def _prepared(pre_TGBX, real_TGB, weight_GHX):
    """The kernel's arrays: pre and real padded in examples, pre and weight in units; gates on an axis of their own."""
    hidden = weight_GHX.shape[1]
    size_H, size_B = _sizes(hidden, pre_TGBX.shape[2])
    pre_TGB4H = pre_TGBX.reshape(*pre_TGBX.shape[:3], 4, hidden)
    weight_G4HH = weight_GHX.reshape(-1, hidden, 4, hidden).transpose(0, 2, 1, 3)
    return (
        _padded(pre_TGB4H, {2: size_B, 4: size_H}),
        _padded(real_TGB.astype(jnp.int32), {2: size_B}),
        _padded(weight_G4HH, {2: size_H, 3: size_H}),
    )


def _interpret(interpret: bool | None) -> bool:
    return jax.default_backend() == "cpu" if interpret is None else interpret


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def lstm_pallas(pre_TGBX, real_TGB, weight_GHX, interpret: bool | None = None):
    """What `lstm_scan` returns, from the kernel; up to `LARGEST` units in one of `TYPES`. `interpret`: default is to on
    a CPU, where there is no Triton."""
    pre, real, weight = _prepared(pre_TGBX, real_TGB, weight_GHX)
    states = jax.ShapeDtypeStruct((*pre.shape[:3], pre.shape[4]), pre.dtype)
    (h_TGBH,) = _run(_forward_kernel, (pre, real), weight, [states], interpret=_interpret(interpret))
    return h_TGBH[:, :, : pre_TGBX.shape[2], : weight_GHX.shape[1]]


def _forward(pre_TGBX, real_TGB, weight_GHX, interpret):
    pre, real, weight = _prepared(pre_TGBX, real_TGB, weight_GHX)
    shape = (*pre.shape[:3], pre.shape[4])
    outputs = [
        jax.ShapeDtypeStruct(shape, pre.dtype),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct(pre.shape, pre.dtype),
    ]
    h, c, gates = _run(_forward_kernel, (pre, real), weight, outputs, interpret=_interpret(interpret))
    h_TGBH = h[:, :, : pre_TGBX.shape[2], : weight_GHX.shape[1]]
    return h_TGBH, (h_TGBH, c, gates, real, weight)


def _backward(interpret, residuals, d_h_TGBH):
    h_TGBH, c, gates, real, weight = residuals
    d_h = _padded(d_h_TGBH, {2: c.shape[2], 3: c.shape[3]})
    inputs, back = (d_h, c, shifted(c), gates, real), weight.transpose(0, 1, 3, 2)
    outputs = [jax.ShapeDtypeStruct(gates.shape, gates.dtype)]
    (d_pre,) = _run(_backward_kernel, inputs, back, outputs, interpret=_interpret(interpret))
    d_pre_TGB4H = d_pre[:, :, : h_TGBH.shape[2], :, : h_TGBH.shape[3]]
    d_pre_TGBX = d_pre_TGB4H.reshape(*h_TGBH.shape[:3], -1)
    return d_pre_TGBX, None, weight_gradient(h_TGBH, d_pre_TGBX)


lstm_pallas.defvjp(_forward, _backward)
