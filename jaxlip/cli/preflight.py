"""What would make a run worthless, found before its first step: on the real data and the freshly built model.

Exit code 2 if a check fails. train.py does the same at its start. `--lr-range FILE.png` also trains for 120 steps, each
at a higher learning rate, and draws the loss over the rate.
"""

import collections
import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence

from jaxlip.cli.options import Parser, with_config
from jaxlip.data.folds import read_corpus
from jaxlip.errors import UserError
from jaxlip.preflight.probe import Probe
from jaxlip.preflight.rate import check_rate
from jaxlip.preflight.run import preflight, stop_if_failed

PICTURES = (".png", ".svg", ".pdf")


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip preflight", __doc__, add_help=False)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument(
        "--lr-range", type=pathlib.Path, metavar="FILE.png", help="probe the learning rate, and draw the loss over it"
    )
    options, experiment = with_config(parser, arguments)
    picture = options.lr_range
    if picture and (picture.suffix not in PICTURES or picture.is_dir() or not picture.absolute().parent.is_dir()):
        raise UserError(
            f"--lr-range {picture} cannot be drawn: name one of {', '.join(PICTURES)} in a folder that is there."
        )
    if not options.json:
        print(f"reading data ({experiment.name})", flush=True)
    corpus = read_corpus(experiment)
    began, checks = time.perf_counter(), []
    for check in preflight(experiment, corpus):
        checks.append(check)
        if not options.json:
            print(check.line(), flush=True)
    if picture:
        checks.append(check_rate(Probe(experiment, corpus), picture))
        if not options.json:
            print(checks[-1].line(), flush=True)
    if options.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=1))
    else:
        counts = collections.Counter(check.verdict for check in checks)
        seconds = time.perf_counter() - began
        print(f"{counts['pass']} passed, {counts['warn']} warned, {counts['fail']} failed in {seconds:.1f} s")
    stop_if_failed(checks)
