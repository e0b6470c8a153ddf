"""Writes report.html of a run anew, from what is in its folder; needs no data and no checkpoint."""

import pathlib
from collections.abc import Sequence

from jaxlip.cli.options import Parser
from jaxlip.engine.run import RunFolder
from jaxlip.report.run_page import write_report


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip report", __doc__)
    parser.add_argument("run", metavar="RUN", help="run, by name under --runs or by path")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    parser.epilog = "Scores are those that evaluate.py has saved there, which writes the report, too."
    options = parser.parse_args(arguments)
    print(f"wrote {write_report(RunFolder.find(options.run, options.runs, trained=False))}")
