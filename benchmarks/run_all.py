"""All benchmarks, one after the other, as a Markdown section for RESULTS.md.

    pip install -e '.[peers]' -c constraints.txt
    python benchmarks/run_all.py                     # one pinned CPU thread
    python benchmarks/run_all.py --device gpu        # ten minutes at the most
    python benchmarks/run_all.py --quick --out section.md

A part that fails, or takes longer than it may, says so in its place and the next one begins. On a GPU PyTorch takes
part where it sees one, otherwise jaxlip is measured alone.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
VERSIONS = ("jax", "jaxlib", "optax", "numpy", "torch", "torch-geometric")
GPU_SECONDS = 570.0
"""For all parts on a GPU."""
LINES = 25
"""Of what a part that failed has said."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A command, and the seconds that it may take."""

    title: str
    command: tuple[str, ...]
    seconds: float


def part(title: str, seconds: float, script: str, *options: str) -> Part:
    return Part(title, (f"benchmarks/{script}.py", *options), seconds)


def cpu_parts(quick: bool) -> list[Part]:
    rounds = ("--rounds", "3" if quick else "7")
    parts = [
        part("V4 training, T=29", 900, "train_step", *rounds),
        part("V4 inference, T=29", 900, "inference", *rounds),
        part("CTC loss and gradient", 600, "ctc", "--rounds", "11" if quick else "61"),
        part("A whole epoch of V4", 600, "whole_run", "--steps", "10" if quick else "20"),
    ]
    if quick:
        return parts
    long, v3 = ("--frames", "75", *rounds), ("--config", "configs/v3.py")
    return [
        *parts,
        part("V4 training, T=75", 1200, "train_step", *long),
        part("V4 inference, T=75", 1200, "inference", *long),
        part("V3 training, T=29", 900, "train_step", *v3, *rounds),
        part("V3 training, T=75", 1200, "train_step", *v3, *long),
        part("V3 inference, T=29", 900, "inference", *v3, *rounds),
        part("V3 inference, T=75", 1200, "inference", *v3, *long),
        part("Streaming from shards", 1200, "streaming", "--clips", "640"),
        part("Eight models at once", 1200, "population"),
        part("Decoding", 900, "decode"),
        part("m-heights", 300, "mheight"),
    ]


def gpu_parts(quick: bool, torch_too: bool) -> list[Part]:
    """The most telling first, as time may run out."""
    gpu = ("--device", "gpu")
    eager = ("--peers", "dense,pyg" if torch_too else "none")
    half = ("--peers", "autocast" if torch_too else "none")
    fastest = ("--peers", "dense,pyg,compiled,autocast,compiled+autocast" if torch_too else "none")
    few = ("--rounds", "3" if quick else "7", "--no-peak")
    pallas = ("--precision", "bfloat16", "--lstm", "pallas")
    wide = ("--batch", "256", "--steps", "50")
    parts = [
        part("V4 training, B=32, T=29", 120, "train_step", *gpu, *fastest, *few),
        part("A whole epoch of V4", 60, "whole_run", *gpu),
        part("V4 training, B=256, T=29", 90, "train_step", *gpu, *eager, *few, *wide),
        part("V4 training, B=32, bfloat16", 60, "train_step", *gpu, *half, *few, "--precision", "bfloat16"),
        part("CTC loss and gradient", 60, "ctc", *gpu, "--rounds", "21"),
        part("Eight models at once", 90, "population", *gpu, "--steps", "20", "--config", "configs/v4.py"),
        part("V4 inference, B=32, T=29", 60, "inference", *gpu, *eager, *few),
    ]
    if quick:
        return parts
    return [
        *parts,
        part("LSTM backends", 60, "lstm", *gpu),
        part("V4 training, LSTMs by cuDNN", 60, "train_step", *gpu, "--peers", "none", *few, "--lstm", "cudnn"),
        part("V4 training, bfloat16, LSTMs by Pallas", 60, "train_step", *gpu, "--peers", "none", *few, *pallas),
        part("V4 training, B=256, bfloat16", 60, "train_step", *gpu, *half, *few, *wide, "--precision", "bfloat16"),
        part("V4 training, B=32, float16", 60, "train_step", *gpu, *half, *few, "--precision", "float16"),
        part("V4 inference, B=256, T=29", 60, "inference", *gpu, *eager, *few, *wide),
        part("A whole epoch of V4, bfloat16", 60, "whole_run", *gpu, "--precision", "bfloat16"),
        part("V4 training, B=32, T=29, memory", 90, "train_step", *gpu, *eager, "--rounds", "3"),
    ]


def run(chosen: Part, limit: float) -> str:
    """What a part has printed, as Markdown."""
    head = f"### {chosen.title}\n\n`python {shlex.join(chosen.command)}`\n\n"
    limit = min(chosen.seconds, limit)
    if limit < 5:
        return head + "Not run: no time was left.\n"
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *chosen.command],
            cwd=HERE.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE.parent), os.environ.get("PYTHONPATH", "")))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
        )
        said, code = done.stdout.strip(), done.returncode
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode(errors="replace").strip() if isinstance(late.stdout, bytes) else late.stdout or ""
        code = f"none within {limit:.0f} s"
    if code:
        tail = "\n".join(said.splitlines()[-LINES:])
        return f"{head}Failed (exit code {code}):\n\n```\n{tail}\n```\n"
    fenced = said if "|---|" in said else f"```\n{said}\n```"
    return f"{head}{fenced}\n\n({time.perf_counter() - began:.0f} s)\n"


def hardware() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    return f"{', '.join(sorted(names)) or platform.processor()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def gpu_name() -> str:
    query = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip().replace("\n", "; ")
    except (OSError, subprocess.TimeoutExpired):
        return "no nvidia-smi"


def torch_sees_a_gpu() -> bool:
    """In a process of its own, so that this one holds no part of the GPU."""
    asks = "import torch, torch_geometric; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", asks], capture_output=True).returncode == 0


def versions() -> str:
    found = []
    for name in VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return f"Python {platform.python_version()}, " + ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="fewer parts and rounds")
    parser.add_argument("--seconds", type=float, help=f"for all parts (on a GPU {GPU_SECONDS:.0f}, else no limit)")
    parser.add_argument("--out", type=pathlib.Path, help="write the section there too, after every part")
    options = parser.parse_args()
    on_gpu = options.device == "gpu"
    parts = gpu_parts(options.quick, torch_sees_a_gpu()) if on_gpu else cpu_parts(options.quick)
    until = time.perf_counter() + (options.seconds or (GPU_SECONDS if on_gpu else float("inf")))
    where = f"{gpu_name()}; {hardware()}" if on_gpu else hardware()
    text = f"## All benchmarks on {options.device.upper()}, {datetime.date.today()}\n\n{where}; {versions()}.\n"
    print(text, flush=True)
    for chosen in parts:
        section = run(chosen, until - time.perf_counter())
        print(section, flush=True)
        text += "\n" + section
        if options.out:
            options.out.write_text(text)


if __name__ == "__main__":
    main()
