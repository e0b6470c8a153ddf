"""The CTC lattice as one GPU kernel (Pallas, Triton), and the choice between it and the scan.

A scan on a GPU costs a few launches a frame; here one program an example and direction keeps its states in registers
and loops over the frames itself. Tested in interpret mode and lowered for CUDA; it has NOT RUN ON A GPU YET, which is
why the automatic choice compares its values with the scan's before it looks at the times.
"""

import functools
import math
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.losses.ctc_lattice import ZERO, lattice_scan, power, skips, split

# P is the states of one kind, padded to a power of two for Triton; M = 2 B, forward examples, then backward ones.

# How far a kernel's values may be from the scan's; rounding alone is a thousand times less.
AGREE = 1e-3


def _kernel(blank_ref, label_ref, real_ref, skip_ref, start_ref, *out_refs, posteriors):
    """One example in one direction. Refs: log2 emissions [T], [T, P]; frames [T] and skips [P] as integers; exponents
    of the blanks at the start [P]. Out: m, e of blanks and of labels after the last frame [P], and before each emission
    [T, P]."""
    size_P = skip_ref.shape[0]
    index_P = jax.lax.broadcasted_iota(jnp.int32, (size_P,), 0)
    # Triton cannot shift a vector; a masked sum does it exactly, and over the first axis needs next to no shuffles.
    is_before_PP = index_P[:, None] + 1 == index_P[None]
    skip_P = skip_ref[...] != 0
    dtype = label_ref.dtype

    def before(x_P, first):
        return jnp.where(index_P == 0, first, jnp.sum(jnp.where(is_before_PP, x_P[:, None], 0), axis=0))

    def moves(state):
        blank_m, more = split(state[0])
        blank_e = state[1] + more
        label_m, more = split(state[2])
        label_e = state[3] + more
        before_m, before_e = before(label_m, 1.0), before(label_e, ZERO)
        to_blank_e = jnp.maximum(blank_e, before_e)
        to_blank_m = blank_m * power(blank_e - to_blank_e, dtype) + before_m * power(before_e - to_blank_e, dtype)
        skip_e = jnp.where(skip_P, before_e, ZERO)
        to_label_e = jnp.maximum(jnp.maximum(label_e, blank_e), skip_e)
        to_label_m = label_m * power(label_e - to_label_e, dtype) + blank_m * power(blank_e - to_label_e, dtype)
        return to_blank_m, to_blank_e, to_label_m + before_m * power(skip_e - to_label_e, dtype), to_label_e

    def frame(t, state):
        moved = moves(state)
        for ref, value in zip(out_refs[4:], moved if posteriors else (), strict=True):
            ref[t] = value
        log2_1, log2_P, real = blank_ref[t], label_ref[t], real_ref[t] != 0
        new = []
        for m, e, log2 in ((*moved[:2], log2_1), (*moved[2:], log2_P)):
            floor = jnp.floor(log2)
            new += [m * jnp.exp2(log2 - floor), jnp.maximum(e + floor.astype(e.dtype), ZERO)]
        return tuple(jnp.where(real, a, b) for a, b in zip(new, state, strict=True))

    start_e = start_ref[...]
    ones_P = jnp.full((size_P,), 1, dtype)
    state = jax.lax.fori_loop(0, label_ref.shape[0], frame, (ones_P, start_e, ones_P, jnp.full_like(start_e, ZERO)))
    for ref, value in zip(out_refs[:4], state, strict=True):
        ref[...] = value


def _run(blank_MT, label_MTP, real_MT, skip_MP, start_MP, *, posteriors, interpret):
    """The kernel over all programs: its outputs with a leading axis M."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    def block(shape):
        return pl.BlockSpec((None, *shape[1:]), lambda program: (program,) + (0,) * (len(shape) - 1))

    inputs = (blank_MT, label_MTP, real_MT, skip_MP, start_MP)
    kinds = [label_MTP.dtype, start_MP.dtype] * 2
    shapes = [jax.ShapeDtypeStruct(start_MP.shape, kind) for kind in kinds]
    shapes += [jax.ShapeDtypeStruct(label_MTP.shape, kind) for kind in kinds if posteriors]
    return pl.pallas_call(
        functools.partial(_kernel, posteriors=posteriors),
        grid=(len(start_MP),),
        in_specs=[block(x.shape) for x in inputs],
        out_specs=[block(x.shape) for x in shapes],
        out_shape=shapes,
        interpret=interpret,
        # The other GPU backend of Pallas needs a Hopper.
        compiler_params=triton.CompilerParams(num_warps=min(max(start_MP.shape[1] // 32, 1), 8)),
    )(*inputs)


def _inputs(blank_TB, label_TNB, frames_BT, labels_BN, tokens_BN, both):
    """What the kernel reads; `both`: the reversed examples follow the forward ones."""
    size_N = labels_BN.shape[1]
    size_P = 2 ** math.ceil(math.log2(size_N + 1))
    extra = size_P - size_N
    dtype = label_TNB.dtype
    integer = jnp.dtype(f"int{jnp.finfo(dtype).bits}")
    scale, floor = 1 / math.log(2), float(ZERO)
    blank_BT = jnp.maximum(blank_TB.T * scale, floor)
    label_BTN = jnp.maximum(label_TNB.transpose(2, 0, 1) * scale, floor)
    can_skip_BN = skips(labels_BN)
    lengths_B = tokens_BN.sum(axis=1)
    arrays = [blank_BT, label_BTN, frames_BT, can_skip_BN, jnp.zeros_like(lengths_B)]
    if both:
        back_skip_BN = jnp.pad(can_skip_BN[:, :0:-1], ((0, 0), (1, 0)))[:, :size_N]
        back = (blank_BT[:, ::-1], label_BTN[:, ::-1, ::-1], frames_BT[:, ::-1], back_skip_BN, size_N - lengths_B)
        arrays = [jnp.concatenate(pair) for pair in zip(arrays, back, strict=True)]
    blank_MT, label_MTN, real_MT, skip_MN, start_M = arrays
    label_MTP = jnp.pad(label_MTN, ((0, 0), (0, 0), (0, extra)), constant_values=floor)
    skip_MP = jnp.pad(skip_MN.astype(jnp.int32), ((0, 0), (0, extra)))
    start_MP = jnp.where(jnp.arange(size_P)[None] == start_M[:, None], 0, ZERO).astype(integer)
    return blank_MT, label_MTP, real_MT.astype(jnp.int32), skip_MP, start_MP


def _at(m_BP, e_BP, place_B):
    """Value at one place of each row as (m, e); zero for place -1."""
    place_B1 = jnp.maximum(place_B, 0)[:, None]
    m_B, e_B = (jnp.take_along_axis(a, place_B1, axis=1)[:, 0] for a in (m_BP, e_BP))
    return m_B, jnp.where(place_B < 0, ZERO, e_B)


def lattice_pallas(blank_TB, label_TNB, frames_BT, labels_BN, tokens_BN, *, posteriors, interpret=None):
    """What `lattice_scan` returns, from the kernel. `interpret`: default is to on a CPU, where there is no Triton."""
    size_T, size_N, size_B = label_TNB.shape
    dtype = label_TNB.dtype
    interpret = jax.default_backend() == "cpu" if interpret is None else interpret
    inputs = _inputs(blank_TB, label_TNB, frames_BT, labels_BN, tokens_BN, posteriors)
    blank_m, blank_e, label_m, label_e, *moved = _run(*inputs, posteriors=posteriors, interpret=interpret)
    lengths_B = tokens_BN.sum(axis=1)
    m1_B, e1_B = _at(blank_m[:size_B], blank_e[:size_B], lengths_B)
    m2_B, e2_B = _at(label_m[:size_B], label_e[:size_B], lengths_B - 1)
    e_B = jnp.maximum(e1_B, e2_B)
    m_B = m1_B * power(e1_B - e_B, dtype) + m2_B * power(e2_B - e_B, dtype)
    log_p_B = jnp.where(e_B > ZERO // 2, jnp.log(m_B) + e_B.astype(dtype) * math.log(2), -jnp.inf)
    if not posteriors:
        return log_p_B, None, None
    blank_BT1, label_BTN = inputs[0][:size_B, :, None], inputs[1][:size_B, :, :size_N]

    def joint(m_MTP, e_MTP, log2, size):
        """Forward, times backward, times the emission between them, over the likelihood."""
        floor = jnp.floor(log2)
        m = m_MTP[:size_B, :, :size] * jnp.flip(m_MTP[size_B:, :, :size], (1, 2)) * jnp.exp2(log2 - floor)
        e = e_MTP[:size_B, :, :size] + jnp.flip(e_MTP[size_B:, :, :size], (1, 2)) + floor.astype(e_MTP.dtype)
        return m * power(e - e_B[:, None, None], dtype) / m_B[:, None, None]

    blank_BT = joint(moved[0], moved[1], blank_BT1, size_N + 1).sum(axis=2)
    return log_p_B, blank_BT.T, joint(moved[2], moved[3], label_BTN, size_N).transpose(1, 2, 0)


LATTICES = {"scan": lattice_scan, "pallas": lattice_pallas}


def fastest(trial: Callable[[str], tuple[float, list[np.ndarray]]]) -> str:
    """ "pallas" if it runs, agrees with the scan and takes less time, else "scan".

    `trial`: name -> (seconds, results). A kernel that fails or disagrees gives a warning.
    """
    seconds, wanted = trial("scan")
    try:
        kernel_seconds, got = trial("pallas")
    except Exception as error:  # whatever a compiler for a GPU never met before may raise
        warnings.warn(f"the CTC kernel does not run here ({error}); the scan is used instead", stacklevel=2)
        return "scan"
    if not all(np.allclose(a, b, rtol=AGREE, atol=AGREE) for a, b in zip(got, wanted, strict=True)):
        warnings.warn("the CTC kernel disagrees with the scan here; the scan is used instead", stacklevel=2)
        return "scan"
    return "pallas" if kernel_seconds < seconds else "scan"


def _trial(name, size_B, size_T, size_N, dtype):
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == "float64"):
        arguments = (
            jnp.asarray(np.log(rng.uniform(0.1, 0.5, (size_T, size_B))), dtype),
            jnp.asarray(np.log(rng.uniform(0.1, 0.5, (size_T, size_N, size_B))), dtype),
            jnp.ones((size_B, size_T), bool),
            jnp.asarray(rng.integers(1, 4, (size_B, size_N)), jnp.int32),
            # So many that any frames hold them.
            jnp.broadcast_to(jnp.arange(size_N)[None] < size_T // 2, (size_B, size_N)),
        )
        run = jax.jit(functools.partial(LATTICES[name], posteriors=True))
        results = [np.asarray(x) for x in run(*arguments)]
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(run(*arguments))
            seconds.append(time.perf_counter() - start)
    return min(seconds), results


def timed_trial(name: str, size_B: int, size_T: int, size_N: int, dtype: str) -> tuple[float, list[np.ndarray]]:
    """Seconds (the best of five) and results of one lattice on random emissions of that size."""
    # The caller is being traced as a rule. A thread of its own knows nothing of that; `ensure_compile_time_eval` would
    # reach into the kernel.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_trial, name, size_B, size_T, size_N, dtype).result()


@functools.cache
def measured(size_B: int, size_T: int, size_N: int, dtype: str) -> str:
    """The faster lattice for a size on this GPU, tried once a process."""
    return fastest(lambda name: timed_trial(name, size_B, size_T, size_N, dtype))


def lattice_for(backend: str, size_B: int, size_T: int, size_N: int, dtype: str):
    """The function for a backend: "scan", "pallas" or "auto", the scan except on one GPU, where both are tried.

    On several GPUs automatic partitioning would gather the whole batch for the kernel on each.
    """
    if backend == "auto":
        single_gpu = jax.default_backend() == "gpu" and jax.device_count() == 1
        backend = measured(size_B, size_T, size_N, dtype) if single_gpu else "scan"
    if backend not in LATTICES:
        raise ValueError(f"backend is {backend!r}; it must be 'auto', 'scan' or 'pallas'")
    return LATTICES[backend]
