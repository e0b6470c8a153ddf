"""Memory that steps take at the highest, beside the process that makes them: one contender in a process of its own.

What is counted begins once weights and batch are ready and jaxlip's training step is compiled: activations, gradients,
moments of the optimiser. On a CPU it is resident memory, on a GPU what the framework has allocated there in all.
"""

import ctypes
import dataclasses
import json
import pathlib
import subprocess
import sys

CALLS = 3
MIB = 2**20
STATUS = pathlib.Path("/proc/self/status")


def of(name: str, chosen) -> float:
    """MiB, or NaN where it cannot be measured, as outside of Linux."""
    said = json.dumps({"name": name, **dataclasses.asdict(chosen), "steps": 1})
    done = subprocess.run([sys.executable, __file__, said], capture_output=True, text=True)
    try:
        return float(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        print(f"no peak memory of {name}: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return float("nan")


def resident(field: str) -> float:
    """MiB that are resident now (VmRSS), or were at the highest (VmHWM)."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def on_cpu(name: str, chosen) -> float:
    import steps

    run = steps.contender(name, chosen).run
    # What compilers and imports have freed goes back, and the highest mark down to what there is.
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    for _ in range(CALLS):
        run()
    return resident("VmHWM") - before


def on_gpu(name: str, chosen) -> float:
    import jax
    import steps

    run = steps.contender(name, chosen).run
    for _ in range(CALLS):
        run()
    if name == "jaxlip":
        return (jax.devices()[0].memory_stats() or {})["peak_bytes_in_use"] / MIB
    import torch

    return torch.cuda.max_memory_allocated() / MIB


def main() -> None:
    import steps

    said = json.loads(sys.argv[1])
    name = said.pop("name")
    chosen = steps.Setting(**said)
    print(on_gpu(name, chosen) if chosen.device == "gpu" else on_cpu(name, chosen))


if __name__ == "__main__":
    main()
