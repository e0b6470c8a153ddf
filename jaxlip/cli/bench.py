"""How fast this machine trains and reads, and what keeps it from doing so faster: memory, arithmetic, or neither.

    jaxlip bench                                     # V4 and V3, B=32, T=29, and CTC
    jaxlip bench --quick                             # V4 alone, small batches, some seconds
    jaxlip bench --config configs/v2.py --frames 75

Clips are made up; nothing is read or downloaded. Each row stands for one step: its time, the bytes and floating-point
operations that XLA counts, the least time that these would need at the rates of copying and multiplying that were
measured on this machine, and what binds: the larger of the two where it explains half of the time, otherwise latency,
which is small operations that wait for each other, such as the frames of an LSTM.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from jaxlip.cli.options import Parser
from jaxlip.config import Experiment, load_config
from jaxlip.errors import UserError
from jaxlip.models.lstm_backends import BACKENDS
from jaxlip.report.bench import Sizes, bench, word_models
from jaxlip.report.environment import environment
from jaxlip.report.tables import format_rows
from jaxlip.tasks.word import Word

PRECISIONS = ("float32", "bfloat16", "float16")
QUICK = Sizes(batch=4, frames=29, budget=0.3)
GPU_STEPS = 100
"""Training steps a dispatch where the host would otherwise be waited for."""


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip bench", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", metavar="FILE", help="a config of words in place of V4 and V3")
    parser.add_argument("--batch", type=int, metavar="N", help="clips a step")
    parser.add_argument("--frames", type=int, metavar="N", help="frames a clip")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of training and of the product")
    parser.add_argument("--lstm", choices=tuple(BACKENDS), default="scan", help="what computes LSTMs")
    parser.add_argument("--quick", action="store_true", help="V4 alone, small batches, short measurements")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the numbers there too")
    options = parser.parse_args(arguments)
    experiments = {pathlib.Path(file).stem: _words(file) for file in options.config or ()} or word_models()
    if options.quick and not options.config:
        # Most of the time goes into compiling.
        experiments = {"v4": experiments["v4"]}
    said = bench(experiments, _sizes(options), options.precision, options.lstm, _say)
    said = {"environment": environment(), "precision": options.precision, "lstm": options.lstm, **said}
    # What is printed is what is saved.
    print(format_bench(said))
    if options.json:
        _write(said, options.json)


def _words(file: str) -> Experiment:
    experiment = load_config(file)
    if not isinstance(experiment.task, Word):
        raise UserError(f"--config {file}: only configs of words (such as configs/v4.py) can be measured.")
    return experiment


def _sizes(options: argparse.Namespace) -> Sizes:
    import jax

    sizes = QUICK if options.quick else Sizes()
    given = {name: value for name in ("batch", "frames") if (value := getattr(options, name)) is not None}
    for name, value in given.items():
        if value < 1:
            raise UserError(f"--{name} {value} is not a number from 1 on.")
    steps = 1 if jax.default_backend() == "cpu" else GPU_STEPS
    return dataclasses.replace(sizes, steps=steps, **given)


def _say(line: str) -> None:
    print(f"  {line} ...", file=sys.stderr, flush=True)


def _write(said: dict[str, Any], file: pathlib.Path) -> None:
    try:
        file.write_text(json.dumps(said, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--json {file} cannot be written: {error.strerror}.") from None


def format_bench(said: dict[str, Any]) -> str:
    """The environment, the machine's rates, and the table."""
    machine, sizes, where = said["machine"], said["sizes"], said["environment"]
    return "\n".join(
        [
            f"{where['device']}, {where['processor']}; jax {where['jax']}",
            f"copying {machine['copy_bytes'] / 1e9:,.1f} GB/s, multiplying {machine['matmul_flops'] / 1e9:,.0f} "
            f"GFLOP/s in {machine['dtype']}",
            f"B={sizes['batch']} T={sizes['frames']} in {said['precision']}, LSTMs by {said['lstm']}, {sizes['steps']} "
            "steps a dispatch",
            format_rows(said["steps"]),
        ]
    )
