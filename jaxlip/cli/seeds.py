"""Train a config several times at once, with seeds that follow train.seed, and say how far its scores spread.

Every run lies in runs/<name>-s0, -s1, ... as if it had been trained alone. --against compares: with another config,
which is then trained in the same way, or with a population that is finished, by its name.

  jaxlip seeds --config configs/v3.py -n 8
  jaxlip seeds --config configs/v3.py -n 5 --name v3_mirrored --task.augment.flip 0.5 --against v3
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxlip.cli.options import Parser, with_config
from jaxlip.cli.population import population_parser, train_population
from jaxlip.config import Experiment
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.metrics.over_runs import Spread
from jaxlip.report.population import (
    compare,
    format_differences,
    format_spreads,
    score_seeds,
    spreads,
    to_json,
)


def run(arguments: Sequence[str]) -> None:
    options, experiment = with_config(_parser(), arguments)
    if options.number < 1:
        raise UserError(f"-n {options.number} is not 1 or more.")
    figures: dict[str, Any] = {}
    against = None
    if options.against and options.against.endswith(".py"):
        _, other = with_config(_parser(), [*arguments, "--config", options.against])
        if other.name == experiment.name:
            raise UserError(f"both configs are named {other.name}; give one of them another name.")
        against = train_population(seeded(other, options.number), options)
    elif options.against:
        against = finished(options.against, options.runs)
    folders = train_population(seeded(experiment, options.number), options)
    own = _report(experiment.name, folders, options.split, 0, figures)
    if against:
        name = options.against if options.against in figures else against[0].path.name.removesuffix("-s0")
        others = _report(name, against, options.split, 1, figures)
        differences = compare(others, own)
        print(f"\n{experiment.name} minus {name}\n{format_differences(differences)}")
        figures["differences"] = {score: dataclasses.asdict(found) for score, found in differences.items()}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"wrote {options.json}")


def _parser() -> Parser:
    parser = population_parser("jaxlip seeds", __doc__)
    parser.add_argument("-n", type=int, default=5, dest="number", metavar="N", help="runs (default 5)")
    parser.add_argument("--against", metavar="B", help="config file, or name of a finished population, to compare with")
    parser.add_argument("--split", help="split to score: test (default, where there is one) or val")
    return parser


def seeded(experiment: Experiment, number: int) -> list[Experiment]:
    """The experiment with as many seeds, from its own on."""
    first = experiment.train.seed
    return [
        dataclasses.replace(
            experiment,
            name=f"{experiment.name}-s{index}",
            train=dataclasses.replace(experiment.train, seed=first + index),
        )
        for index in range(number)
    ]


def finished(name: str, runs: pathlib.Path) -> list[RunFolder]:
    """The runs of a population, by its name. Raises UserError."""
    count = 0
    while (runs / f"{name}-s{count}").is_dir():
        count += 1
    if not count:
        raise UserError(f"--against {name} is no config file, and there is no run {runs / f'{name}-s0'}.")
    return [RunFolder.find(f"{name}-s{index}", runs) for index in range(count)]


def _report(
    name: str, folders: Sequence[RunFolder], split: str | None, seed: int, figures: dict[str, Any]
) -> dict[str, Spread]:
    split, scores = score_seeds(folders, split)
    by_name = spreads(scores, seed=seed)
    names = f"{folders[0].path.name} ... {folders[-1].path.name}"
    print(f"\n{name}: {len(folders)} runs ({names})  split {split}  examples {scores[0].count}")
    print(format_spreads(by_name))
    figures[name] = {"runs": [str(folder.path) for folder in folders], "split": split, "scores": to_json(by_name)}
    return by_name
