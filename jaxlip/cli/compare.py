"""Runs side by side: scores with intervals, costs, what their configs differ in, and whether they beat the first run.

Scores are those that evaluate.py has saved in the runs' folders; needs no data and no checkpoint.
"""

import json
import pathlib
from collections.abc import Sequence

from jaxlip.cli.options import Parser
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.report.compare import compare
from jaxlip.report.compare_page import to_html, to_json, to_text
from jaxlip.report.record import read_record


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip compare", __doc__)
    parser.add_argument("names", nargs="+", metavar="RUN", help="runs, by name under --runs or by path; the first is A")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    parser.add_argument("--split", help="split whose scores are compared (default: test where all have it, else val)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the comparison to this file")
    parser.add_argument("--html", type=pathlib.Path, metavar="FILE", help="also write a page with curves to this file")
    options = parser.parse_args(arguments)
    if len(options.names) < 2:
        raise UserError(f"there is nothing to compare {options.names[0]} with; name two runs or more.")
    records = [read_record(RunFolder.find(name, options.runs, trained=False)) for name in options.names]
    split = options.split or next((s for s in ("test", "val") if all(s in r.scores for r in records)), "test")
    found = compare(records, split)
    print(to_text(found))
    written = {options.json: json.dumps(to_json(found), indent=1) + "\n", options.html: to_html(found, records)}
    for path, text in written.items():
        if path is None:
            continue
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.") from None
        print(f"wrote {path}")
