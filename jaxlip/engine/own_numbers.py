"""What runs that share one program may differ in: numbers, which the program then takes as arguments."""

import copy
from collections.abc import Sequence
from typing import Any

import jax

from jaxlip.config import Experiment, flat
from jaxlip.errors import UserError
from jaxlip.models.norm import OwnRate

# Fields that no program looks at (which examples are a member's, its splits say), or that the table of learning rates
# has taken in.
FREE = (
    "name",
    "init_from",
    "fold.index",
    "data.fold",
    "train.epochs",
    "train.seed",
    "train.eval_epochs",
    "train.monitor",
    "train.patience",
    "train.min_delta",
    "train.keep_best",
    "optim.plateau_patience",
    "optim.plateau_factor",
    "optim.lr",
    "optim.warmup_epochs",
    "optim.final",
    "optim.schedule",
)
TRACED = ("optim.", "task.")
"""Where numbers may differ from member to member inside one program."""


class NotTogether(UserError):
    """Runs that one program cannot train."""


def with_scalars(experiment: Experiment, scalars: dict[str, Any]) -> Experiment:
    """The experiment with these numbers, which may be traced and are therefore not validated."""
    changed = experiment
    for name, value in scalars.items():
        # Masks are drawn and gradients written out by hand where there is dropout, which must know its rate for one.
        own = OwnRate(value) if name.endswith("dropout") else value
        changed = _with(changed, name.split("."), own)
    return changed


def _with(component: Any, path: list[str], value: Any) -> Any:
    field, *rest = path
    changed = copy.copy(component)
    object.__setattr__(changed, field, _with(getattr(component, field), rest, value) if rest else value)
    return changed


def differing_scalars(experiments: Sequence[Experiment]) -> list[str]:
    """Numbers that are not the same in all members. Raises NotTogether for other fields that are not."""
    fields = [flat(experiment) for experiment in experiments]
    missing = "(no such field)"
    differing = [
        name
        for name in sorted(set().union(*fields))
        if name not in FREE and any(other.get(name, missing) != fields[0].get(name, missing) for other in fields)
    ]
    for name in differing:
        kinds = {type(other.get(name)) for other in fields}
        if not name.startswith(TRACED) or not {float} <= kinds <= {float, int}:
            values = ", ".join(str(other.get(name, missing)) for other in fields[:3])
            raise NotTogether(f"runs that are trained together may not differ in {name} ({values}); train them apart.")
    return differing


def alike(experiments: Sequence[Experiment], spec: Any) -> list[list[int]]:
    """Which of these experiments one program may train: groups of their numbers, in order. Those of a group have arrays
    of the same shapes and differ in numbers alone."""
    groups: dict[Any, list[int]] = {}
    for number, experiment in enumerate(experiments):
        fixed = [
            (name, repr(value))
            for name, value in flat(experiment).items()
            if name not in FREE and not (name.startswith(TRACED) and isinstance(value, float))
        ]
        task: Any = experiment.task
        shapes = str(jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), task.build(spec).shapes()))
        groups.setdefault((*fixed, experiment.optim.averaged, shapes), []).append(number)
    return list(groups.values())
