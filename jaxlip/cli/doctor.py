"""What is wrong with a run, from its curves and scores: the evidence, and what to try next.

Needs no data and no checkpoint. Scores are those that evaluate.py has saved in the run's folder.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

from jaxlip.cli.options import Parser
from jaxlip.engine.run import RunFolder
from jaxlip.report.doctor import diagnose
from jaxlip.report.finding import Finding
from jaxlip.report.record import read_record

LABELS = {"bad": "WRONG", "warn": "look", "note": "note"}


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip doctor", __doc__)
    parser.add_argument("runs_named", nargs="+", metavar="RUN", help="run, by name under --runs or by path")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    options = parser.parse_args(arguments)
    found = {}
    for name in options.runs_named:
        folder = RunFolder.find(name, options.runs, trained=False)
        found[str(folder.path)] = diagnose(read_record(folder))
    if options.json:
        as_json = {path: [dataclasses.asdict(f) for f in findings] for path, findings in found.items()}
        print(json.dumps(as_json, indent=1))
        return
    for path, findings in found.items():
        print(f"{path}: {'nothing found' if not findings else ''}".rstrip())
        for finding in findings:
            print("\n".join(lines_of(finding)))


def lines_of(finding: Finding) -> list[str]:
    """The evidence, and under it what to try, with the rule that says so."""
    lines = [f"  {LABELS[finding.severity]:5s}  {finding.line()}"]
    return [*lines, f"         try {finding.advice}   (rule {finding.kind})"] if finding.advice else lines
