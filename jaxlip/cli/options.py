"""Options that stand beside an experiment's own fields, parsed before them."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxlip.config import Experiment, load_config, override
from jaxlip.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are UserErrors, and whose options are never guessed from a prefix."""

    def __init__(self, prog: str, description: str | None, **kwargs):
        super().__init__(prog=prog, description=description, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help.")


def with_config(parser: Parser, arguments: Sequence[str]) -> tuple[argparse.Namespace, Experiment]:
    """The parser's own options, and the experiment of `--config` with all other options applied to it."""
    parser.add_argument("--config", required=True, metavar="FILE", help="config file, such as configs/v4.py")
    helping = {"-h", "--help"} & set(arguments)
    if helping and "--config" not in " ".join(arguments):
        print(parser.format_help(), end="")
        print("\nEvery field of the config is an option too; `--config FILE --help` lists them.")
        sys.exit(0)
    known, rest = parser.parse_known_args([a for a in arguments if a not in helping])
    experiment = load_config(known.config)
    if helping:
        print(parser.format_help())
    return known, override(experiment, [*rest, *helping], prog=f"{parser.prog} --config {known.config}")
