"""What a search may change: fields of an experiment, each with a range of numbers or a choice of values."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jaxlip.config import Experiment, leaf_fields, override
from jaxlip.errors import UserError

SEARCHED = ("optim.", "task.", "train.", "curriculum.")
"""Parts of an experiment that may be searched: all trials see the same data."""
USUAL = {"dropout": (0.0, 0.8), "label_smoothing": (0.0, 0.3)}
"""Ranges, by the last part of a field's name, that are searched where the user names no fields."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included; uniform in their logarithm if `log`; whole ones if `whole`."""

    field: str
    own: int | float
    """The config's own value."""
    low: int | float
    high: int | float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any) -> Any:
        if self.whole:
            return trial.suggest_int(self.field, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.field, self.low, self.high, log=self.log)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """One of some values, as the command line writes them."""

    field: str
    own: str
    values: tuple[str, ...]

    def suggest(self, trial: Any) -> Any:
        return trial.suggest_categorical(self.field, self.values)


Space = tuple[Range | Choice, ...]


def parse_space(texts: Sequence[str], experiment: Experiment) -> Space:
    """The space of "optim.lr=1e-4:1e-2:log" (a range), "train.batch=16,32" (a choice) and the like; the usual one where
    nothing is said. Raises UserError for fields that cannot be searched or spaces without the config's own value."""
    if not texts:
        return usual_space(experiment)
    space = tuple(_parse(text, experiment) for text in texts)
    fields = [part.field for part in space]
    if twice := next((field for field in fields if fields.count(field) > 1), None):
        raise UserError(f"--over {twice} is given twice.")
    return space


def usual_space(experiment: Experiment) -> Space:
    """Learning rate and weight decay a factor of 10 to both sides of the config's own, and its `USUAL` fields."""
    lr, decay = experiment.optim.lr, experiment.optim.weight_decay
    space: list[Range | Choice] = [Range(field="optim.lr", own=lr, low=lr / 10, high=lr * 10, log=True)]
    if decay:
        space.append(Range(field="optim.weight_decay", own=decay, low=decay / 10, high=decay * 10, log=True))
    for field, value in leaf_fields(experiment):
        low, high = USUAL.get(field.rpartition(".")[2], (math.inf, -math.inf))
        if field.startswith("task.") and isinstance(value, float) and low <= value <= high:
            space.append(Range(field=field, own=value, low=low, high=high))
    return tuple(space)


def _parse(text: str, experiment: Experiment) -> Range | Choice:
    field, _, said = text.partition("=")
    fields = dict(leaf_fields(experiment))
    if field not in fields or not field.startswith(SEARCHED):
        raise UserError(f"--over {text}: {field!r} is no field of {', '.join(p[:-1] for p in SEARCHED)}.")
    own = fields[field]
    if isinstance(own, bool) or not isinstance(own, int | float | str):
        raise UserError(f"--over {text}: {field} is {own!r}; only numbers and names can be searched.")
    if ":" in said and not isinstance(own, str):
        part = _parse_range(text, field, said, own)
        inside = part.low <= own <= part.high
    else:
        part = Choice(field=field, own=str(own), values=tuple(said.split(",")))
        for value in part.values:
            # Values that do not fit are found before the first trial.
            override(experiment, [f"--{field}={value}"])
        inside = part.own in part.values
    if not inside:
        raise UserError(f"--over {text} leaves out the config's own value, {own}, with which trials are compared.")
    return part


def _parse_range(text: str, field: str, said: str, own: int | float) -> Range:
    whole = isinstance(own, int)
    low, high, *scale = said.split(":")
    try:
        ends = [(int if whole else float)(end) for end in (low, high)]
    except ValueError:
        raise UserError(f"--over {text}: {low} and {high} must be {'whole ' if whole else ''}numbers.") from None
    if scale not in ([], ["log"]) or not -math.inf < ends[0] < ends[1] < math.inf:
        raise UserError(f"--over {text} must be FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=VALUE,VALUE,...")
    if scale and ends[0] <= 0:
        raise UserError(f"--over {text}: a logarithmic range begins above 0.")
    return Range(field=field, own=own, low=ends[0], high=ends[1], log=bool(scale), whole=whole)
