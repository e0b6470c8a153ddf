"""Cross-validates configs over groups (users) and says which differences between them exceed the noise.

Every repeat shuffles the groups anew. Of each fold's groups one model is tested; the next fold's select it, all others
train it. All `--data.` options hold for every config.
"""

import pathlib
from collections.abc import Sequence

from jaxlip.cli.options import Parser
from jaxlip.config import load_config, override
from jaxlip.errors import UserError
from jaxlip.report.folds import Folded, comparison, criteria, cross_validate, table, write_folded
from jaxlip.report.tables import format_rows


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip folds", __doc__)
    parser.add_argument("--config", nargs="+", required=True, metavar="FILE", help="configs to compare")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="groups of users, 3 or more (default 5)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="times that all is done (default 1)")
    parser.add_argument("--metric", default="ccc", help="score that is compared (default ccc)")
    parser.add_argument("--also", nargs="*", default=[], metavar="METRIC", help="more scores to show")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/folds"), help="folder of all runs")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all figures to this file")
    options, fields = parser.parse_known_args(arguments)
    if options.folds < 3 or options.repeats < 1:
        raise UserError("--folds must be 3 or more and --repeats 1 or more.")
    experiments = [override(load_config(path), fields, prog=parser.prog) for path in options.config]
    results: dict[str, list[Folded]] = {experiment.name: [] for experiment in experiments}
    if len(results) < len(experiments):
        raise UserError(
            f"two of the configs have the same name; the names are {', '.join(e.name for e in experiments)}."
        )
    for repeat in range(options.repeats):
        for experiment in experiments:
            done = cross_validate(experiment, options.runs, folds=options.folds, repeat=repeat)
            if options.metric not in done.scores.scores:
                raise UserError(f"--metric {options.metric} is none of {', '.join(done.scores.scores)}.")
            results[experiment.name].append(done)
            print(
                f"{experiment.name}, repeat {repeat}: {options.metric} {done.scores.scores[options.metric]}", flush=True
            )
    print(f"\n{format_rows(table(results, (options.metric, *options.also)))}")
    if len(results) > 1:
        print(f"\n{format_rows(comparison(results, options.metric))}")
    if reached := criteria(results):
        print(f"\n{format_rows(reached)}")
    if options.json:
        write_folded(results, options.json)
        print(f"wrote {options.json}")
