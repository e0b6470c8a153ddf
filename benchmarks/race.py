"""Contenders of steps.py against each other: outputs compared, times taken in turn, memory in a process of its own."""

import argparse
from typing import Any

import peak_memory
import steps
from pinned import interleaved_seconds, median_and_spread, pin_and_restart, share_the_gpu

TOLERANCE = 1e-4
HALF_TOLERANCE = 0.1
"""Largest differences of logits, in parts of the largest logit."""


def start(names: list[str], chosen: steps.Setting) -> tuple[dict[str, steps.Contender], dict[str, Any]]:
    """The contenders and their logits, as exact as float32 is. A peer that does not run here is left out, with why."""
    import jax
    import numpy as np

    runs, logits = {}, {}
    for name in names:
        try:
            runs[name] = steps.contender(name, chosen)
            with jax.default_matmul_precision("highest" if chosen.precision == "float32" else None):
                logits[name] = np.asarray(runs[name].logits(), np.float32)
        # Whatever a compiler or a driver complains of: the others can still be measured.
        except Exception as error:
            if name == "jaxlip":
                raise
            runs.pop(name, None)
            print(f"{name} does not run here: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}\n")
    return runs, logits


def gaps_of(logits: dict[str, Any], chosen: steps.Setting) -> dict[str, float]:
    """Largest difference of each contender's logits from those of the first peer in float32 (jaxlip's where there is
    none), in parts of the largest. Ends the benchmark if one is no rounding."""
    import numpy as np

    want = logits[next((name for name in logits if name in ("dense", "pyg", "compiled")), "jaxlip")]
    gaps = {name: float(np.abs(got - want).max() / np.abs(want).max()) for name, got in logits.items()}
    for name, gap in gaps.items():
        half = "autocast" in name or (name == "jaxlip" and chosen.precision != "float32")
        if not gap <= (HALF_TOLERANCE if half else TOLERANCE):
            raise SystemExit(f"{name} is another model: its logits differ by {gap:.1e} of the largest.")
    return gaps


def let_torch_round(as_jax_does: bool) -> None:
    """JAX multiplies float32 in TF32 where a GPU has it, unless told otherwise; so may PyTorch."""
    import torch

    torch.set_float32_matmul_precision("high" if as_jax_does else "highest")
    torch.backends.cudnn.allow_tf32 = as_jax_does


def cuda_in_torch() -> bool:
    try:
        import torch
    except ImportError:
        found = False
    else:
        found = torch.cuda.is_available()
    if not found:
        print("PyTorch sees no GPU: jaxlip alone.\n")
    return found


def race(kind: str, description: str | None) -> None:
    """Parses options, runs and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps.add_options(parser)
    options = parser.parse_args()
    chosen = steps.setting(kind, options)
    peers = [] if options.peers == "none" else options.peers.split(",")
    if unknown := set(peers) - set(steps.PEERS):
        parser.error(f"--peers {','.join(sorted(unknown))}: choose from {', '.join(steps.PEERS)}.")
    if options.device == "cpu":
        pin_and_restart(options.memory)
    else:
        share_the_gpu()
        peers = peers if peers and cuda_in_torch() else []
    names = ["jaxlip", *peers]
    # Before this process grows: a small one is cheaper to start others from.
    peaks = {} if options.no_peak else {name: peak_memory.of(name, chosen) for name in names}
    if options.device == "gpu" and peers:
        let_torch_round(False)
    runs, logits = start(names, chosen)
    gaps = gaps_of(logits, chosen)
    if options.device == "gpu" and peers:
        let_torch_round(True)
    calls = {name: (run.run, run.repetitions) for name, run in runs.items()}
    seconds = interleaved_seconds(calls, options.rounds, clock=options.clock)
    print_table(chosen, options, seconds, gaps, peaks)


def print_table(chosen: steps.Setting, options: argparse.Namespace, seconds, gaps, peaks) -> None:
    stats = {name: median_and_spread(values) for name, values in seconds.items()}
    print(
        f"{chosen.kind} {chosen.config} B={chosen.batch} T={chosen.frames} {chosen.precision}, {chosen.device}, "
        f"{options.clock} time, {options.rounds} rounds of {chosen.steps} steps, memory {options.memory}\n"
    )
    print(
        "| | ms a step | clips/s | spread | jaxlip is | logits differ by | peak memory |\n|---|---|---|---|---|---|---|"
    )
    for name, (median, spread) in stats.items():
        faster = "" if name == "jaxlip" else f"{median / stats['jaxlip'][0]:.2f} times as fast"
        peak = f"{peaks[name]:,.0f} MiB" if name in peaks else ""
        print(
            f"| {name} | {median * 1e3:.2f} | {chosen.batch / median:,.1f} | {spread:.0%} | {faster} "
            f"| {gaps[name]:.0e} | {peak} |"
        )
    print(flush=True)
