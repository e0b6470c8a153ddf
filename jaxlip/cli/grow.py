"""Trains a model in phases, each begun from the phase before and widened: one command for all of them.

Phases that are done are skipped, one that was stopped is resumed. With --scratch the last model is also trained from
nothing for as many epochs as all phases together, to compare.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from jaxlip.cli.options import Parser
from jaxlip.cli.train import fit
from jaxlip.config import Experiment, load_config, override
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip grow", __doc__)
    parser.add_argument("--configs", nargs="+", required=True, metavar="FILE", help="a config file for each phase")
    parser.add_argument("--scratch", action="store_true", help="also the last one from nothing, as NAME_scratch")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    parser.epilog = "Other options are of the configs, such as --data.root, and go to every phase."
    options, shared = parser.parse_known_args(arguments)
    phases = in_turn([override(load_config(path), shared, prog=parser.prog) for path in options.configs])
    if options.scratch:
        phases.append(from_nothing(phases))
    for number, phase in enumerate(phases, start=1):
        print(f"phase {number} of {len(phases)}: {phase.name}", flush=True)
        fit(phase, options.runs, resume=bool(RunFolder(options.runs / phase.name).steps), overwrite=False)


def in_turn(phases: list[Experiment]) -> list[Experiment]:
    """Each begun from the one before. Raises UserError where two have one name."""
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise UserError(f"phases need names of their own, not {', '.join(names)}; --name is not for several configs.")
    later = [
        dataclasses.replace(phase, init_from=before.name, grow=True)
        for before, phase in zip(phases, phases[1:], strict=False)
    ]
    return phases[:1] + later


def from_nothing(phases: list[Experiment]) -> Experiment:
    """The last phase's model, trained for as many epochs as all phases."""
    last, epochs = phases[-1], sum(phase.train.epochs for phase in phases)
    train = dataclasses.replace(last.train, epochs=epochs)
    return dataclasses.replace(last, name=f"{last.name}_scratch", init_from=None, grow=False, train=train)
