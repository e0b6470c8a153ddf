"""Student beside teacher: parameters, megabytes in float32, bfloat16 and int8 weights, score with each, and latency.

jaxlip size --run student --run teacher --split test
"""

import argparse
import json
import pathlib
from collections.abc import Sequence

from jaxlip.cli.options import Parser
from jaxlip.engine.run import RunFolder
from jaxlip.report.saved import load_saved
from jaxlip.report.tables import format_rows
from jaxlip.report.weights import weigh


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip size", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", required=True, metavar="RUN", help="a run; may be given again")
    parser.add_argument("--split", default="test", help="split to score: train, val or test (default)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    options = parser.parse_args(arguments)
    rows = []
    for name in options.run:
        saved = load_saved(RunFolder.find(name, options.runs))
        rows += weigh(saved, saved.corpus(), options.split)
    print(json.dumps(rows, indent=1) if options.json else format_rows(rows))
