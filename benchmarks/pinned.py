"""A benchmark in one process on one pinned thread, its contenders interleaved."""

import os
import statistics
import sys
import time
from collections.abc import Callable

KEPT = {"MALLOC_MMAP_THRESHOLD_": "8000000000", "MALLOC_TRIM_THRESHOLD_": "16000000000", "MALLOC_ARENA_MAX": "1"}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "BENCHMARK_PINNED": "1",
}


def pin_and_restart(memory: str) -> None:
    """Starts this script again on one core; allocator and thread settings only count before the process begins.

    `memory`: "kept" tells glibc to keep large blocks, "default" leaves it alone.
    """
    if os.environ.get("BENCHMARK_PINNED"):
        return
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    environment = {**os.environ, **ONE_THREAD, **(KEPT if memory == "kept" else {})}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def share_the_gpu() -> None:
    """Keeps JAX from taking most of the GPU's memory at once, which PyTorch wants too. Ends the benchmark where JAX
    sees none. Called before JAX is imported."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    if jax.default_backend() == "cpu":
        raise SystemExit("JAX sees no GPU.")


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def interleaved_seconds(
    runs: dict[str, tuple[Callable[[], object], int]], rounds: int, *, clock: str = "wall"
) -> dict[str, list[float]]:
    """Seconds a repetition of every contender, `rounds` of each, taken in turn after two warm-up calls.

    `runs`: name -> (function, how many repetitions one call of it makes). The processor's time, `clock` "cpu", is the
    fairer one where other work runs on the same core.
    """
    now = CLOCKS[clock]
    for function, _ in runs.values():
        function()
        function()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (function, repetitions) in runs.items():
            start = now()
            function()
            seconds[name].append((now() - start) / repetitions)
    return seconds


def median_and_spread(seconds: list[float]) -> tuple[float, float]:
    """Median, and (largest - smallest) / median."""
    median = statistics.median(seconds)
    return median, (max(seconds) - min(seconds)) / median
