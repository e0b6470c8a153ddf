"""Prints the parameter table of a config's model; every field of the config can be overridden.

Sizes that come with the data can be given without them: --num-classes 101 (every config; CTC's classes include the
blank), and what else the config's spec counts.
"""

import json
from collections.abc import Sequence
from typing import Any

from jaxlip.cli.options import Parser, with_config
from jaxlip.errors import UserError
from jaxlip.report.parameters import format_table, parameter_table

NUMBER = "--num-"


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip params", __doc__, add_help=False)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    numbers, rest = _numbers(arguments)
    options, experiment = with_config(parser, rest)
    task = experiment.task
    spec = task.shape_spec(experiment.data)  # type: ignore[attr-defined]
    for name, number in numbers.items():
        spec = _resized(spec, name, number)
    table = parameter_table(task.build(spec))  # type: ignore[attr-defined]
    print(json.dumps(table, indent=1) if options.json else format_table(table))


def _numbers(arguments: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The options --num-NAME N (or =N), and all others. Raises UserError for what is no number from 1 on."""
    numbers: dict[str, int] = {}
    rest, left = [], list(arguments)
    while left:
        argument = left.pop(0)
        if not argument.startswith(NUMBER):
            rest.append(argument)
            continue
        name, equals, value = argument.removeprefix(NUMBER).partition("=")
        value = value if equals or not left else left.pop(0)
        if not value.isdecimal() or int(value) < 1:
            raise UserError(f"{NUMBER}{name} {value} is not a number from 1 on.")
        numbers[name.replace("-", "_")] = int(value)
    return numbers, rest


def _resized(spec: Any, name: str, number: int) -> Any:
    """The spec with so many of something, by its own method `with_NAME`. Raises UserError if it has none."""
    prefix = "with_"
    known = [method.removeprefix(prefix) for method in dir(spec) if method.startswith(prefix)]
    if name not in known:
        options = ", ".join(f"{NUMBER}{other}" for other in known) or "none"
        raise UserError(f"{NUMBER}{name}: the model of this config has no such size; it has {options}.")
    return getattr(spec, prefix + name)(number)
