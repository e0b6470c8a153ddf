"""Prints the parameter table of a config's model; every field of the config can be overridden."""

import json
from collections.abc import Sequence

from jaxlip.cli.options import Parser, with_config
from jaxlip.report.parameters import format_table, parameter_table


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip params", __doc__, add_help=False)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options, experiment = with_config(parser, arguments)
    task = experiment.task
    table = parameter_table(task.build(task.shape_spec(experiment.data)))  # type: ignore[attr-defined]
    print(json.dumps(table, indent=1) if options.json else format_table(table))
