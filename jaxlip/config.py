"""Experiment configuration: frozen dataclasses, config files, command-line overrides, JSON. Imports no jax.

A config file has one `get_config() -> Experiment` and a docstring that is its launch command. Each field is declared
once, next to what consumes it: the engine's here, a task's and a model's in their own modules, as `Component`s.
"""

import contextlib
import dataclasses
import difflib
import importlib
import io
import math
import pathlib
import re
import runpy
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar

import tyro

from jaxlip.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """A part of an experiment that a config file chooses: data, task, model."""


T = TypeVar("T", bound=Component)


def require(condition: bool, owner: object, field: str, bound: str) -> None:
    """Raises ValueError("Optim.lr=0 must be ...") unless the condition holds."""
    if not condition:
        raise ValueError(f"{type(owner).__name__}.{field}={getattr(owner, field)!r} must be {bound}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optim(Component):
    """AdamW under warmup + cosine, times reduce-on-plateau fed by the monitored validation metric."""

    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 1e-4
    """Decoupled weight decay, on matrices only (not on biases and norms)."""
    clip: float = 1.0
    """Global gradient norm above which gradients are scaled down."""
    warmup_epochs: float = 2.0
    """Epochs of linear warmup from 0."""
    final: float = 0.01
    """Learning rate at the end of the cosine, as a part of the peak."""
    plateau_patience: int = 10
    """Evaluations without a better monitored metric before the rate is multiplied by `plateau_factor`."""
    plateau_factor: float = 0.5
    """Factor of one plateau reduction."""
    average: float = 0.0
    """Decay of a moving average of the parameters, which is what validation and evaluation use; 0 turns it off."""
    swa: float = 0.0
    """Last part of training over which the average is instead the plain mean (stochastic weight averaging); 0: none.
    Batch norms keep the running moments of the parameters that are trained."""
    schedule: tuple[Component, ...] = ()
    """Factors of the rate (`jaxlip.engine.schedules`) in place of `warmup_epochs` and `final`."""
    rates: tuple[Component, ...] = ()
    """`LayerRate`s (`jaxlip.engine.by_name`): parameters that learn at another rate, or are frozen."""

    def __post_init__(self):
        require(self.lr > 0, self, "lr", "positive")
        require(self.weight_decay >= 0, self, "weight_decay", "0 or more")
        require(self.clip > 0, self, "clip", "positive")
        require(self.warmup_epochs >= 0, self, "warmup_epochs", "0 or more")
        require(0 <= self.final <= 1, self, "final", "in [0, 1]")
        require(self.plateau_patience >= 1, self, "plateau_patience", "1 or more")
        require(0 < self.plateau_factor <= 1, self, "plateau_factor", "in (0, 1]")
        require(0 <= self.average < 1, self, "average", "in [0, 1)")
        require(0 <= self.swa <= 1, self, "swa", "in [0, 1]")
        require(not (self.swa and self.average), self, "swa", "0 where there is a moving average")

    @property
    def averaged(self) -> bool:
        return self.average > 0 or self.swa > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(Component):
    """How often examples are seen, by the task's groups (words, lengths): drawn anew each epoch, with replacement."""

    balance: float = 0.0
    """0 sees groups as often as they occur, 1 all equally often."""
    hard: float = 0.0
    """Groups are seen more often by their recent loss (`Curriculum.memory`) to this power; 0 turns it off."""

    def __post_init__(self):
        for field in ("balance", "hard"):
            require(getattr(self, field) >= 0, self, field, "0 or more")

    @property
    def on(self) -> bool:
        return self.balance > 0 or self.hard > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Component):
    """How long, in what batches, and when to look in."""

    epochs: int = 40
    """Passes over the training split at the most."""
    batch: int = 32
    """Examples a step, over all devices."""
    accumulate: int = 1
    """Parts in which a step's examples are processed, one after the other, to save memory. Where the loss is a mean
    over examples, the gradient is that of the whole batch; batch norms see a part at a time."""
    sampling: Sampling = Sampling()
    """Which examples an epoch sees; by default every one once."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """What models compute in while they are trained; auto: float32 on CPU, bfloat16 where the device knows it, else
    float16 with loss scaling. Parameters, statistics, losses and the optimiser are float32 in any case, and so is
    evaluation: scores do not depend on it."""
    seed: int = 0
    """Seeds initial parameters, batch order, dropout and augmentation."""
    steps_per_dispatch: int = 25
    """Optimiser steps that run on the device between two looks of the host (and of a signal); 100 or more on a GPU."""
    eval_epochs: int = 1
    """Epochs between two evaluations on the validation split (and checkpoints)."""
    monitor: str = "loss"
    """The validation metric that chooses the best checkpoint, lowers the rate and stops: errors and losses are
    minimised, accuracies and correlations maximised."""
    patience: int = 50
    """Evaluations without a better monitored metric (by `min_delta`) before training stops."""
    min_delta: float = 0.0
    """Smallest change of the monitored metric that counts as better."""
    keep_best: int = 1
    """Checkpoints kept by the monitored metric; the latest is always kept beside them."""
    lstm: Literal["auto", "scan", "pallas", "cudnn"] = "auto"
    """What computes LSTMs: on one GPU the fastest that agrees with the scan, measured when the run begins and kept when
    it is resumed, or the named one; elsewhere the scan."""

    def __post_init__(self):
        for field in ("epochs", "batch", "accumulate", "steps_per_dispatch", "eval_epochs", "patience", "keep_best"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(self.batch % self.accumulate == 0, self, "accumulate", f"a divisor of batch={self.batch}")
        require(self.min_delta >= 0, self, "min_delta", "0 or more")
        require(0 <= self.seed < 2**31 - 1, self, "seed", "from 0 to 2147483646")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupWeight(Component):
    """What some groups of examples weigh in the loss: `first` until time `start`, `last` from `end`, linear between."""

    groups: tuple[str, ...]
    first: float = 1.0
    last: float | None = None
    """None: as `first`."""
    start: float = 0.0
    end: float = 0.0

    def __post_init__(self):
        require(self.first >= 0 and (self.last is None or self.last >= 0), self, "first", "0 or more, and `last` too")
        require(self.end >= self.start, self, "end", "`start` or later")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase(Component):
    """A stretch of training from time `start` to the next phase."""

    start: float = 0.0
    weights: tuple[GroupWeight, ...] = ()
    others: float = 0.0
    """Weight of the groups that are not named."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curriculum(Component):
    """What every group of examples weighs in the loss, by phases and by how well it is learned already. The groups are
    the task's: classes of words, lengths of sentences, kinds of code."""

    phases: tuple[Phase, ...] = ()
    """In the order of their starts; before the first, and without any, every group weighs 1."""
    unit: Literal["epochs", "steps"] = "epochs"
    """Of time. Epochs are whole ones: a weight does not change within an epoch."""
    adaptive: float = 0.0
    """Weights are multiplied by (recent loss of the group / mean of the groups) to this power; 0 turns it off."""
    memory: float = 0.99
    """Decay, by step, of the recent losses."""

    def __post_init__(self):
        starts = [phase.start for phase in self.phases]
        require(starts == sorted(starts), self, "phases", "in the order of their starts")
        require(self.adaptive >= 0, self, "adaptive", "0 or more")
        require(0 <= self.memory < 1, self, "memory", "in [0, 1)")

    @property
    def on(self) -> bool:
        return bool(self.phases) or self.adaptive > 0

    def begins(self, after: float, until: float) -> bool:
        """Whether a phase starts in this time, its end included."""
        return any(after < phase.start <= until for phase in self.phases)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fold(Component):
    """Cross-validation: the training and validation splits together, dealt anew in parts of which one validates.

    Who or what is in one part is in no other: speakers where the corpus knows enough of them, else clips. The test
    split stays as it is. Features are standardised as they are without folds, so that all folds have one input.
    """

    of: int = 1
    """How many parts; 1 leaves the splits alone."""
    index: int = 0
    """The part that validates."""
    seed: int = 0
    """Seeds the dealing."""

    def __post_init__(self):
        require(self.of >= 1, self, "of", "1 or more")
        require(0 <= self.index < self.of, self, "index", f"from 0 to {self.of - 1}")
        require(self.seed >= 0, self, "seed", "0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target(Component):
    """A success criterion: what a score must reach to be worth anything (`minimum`), to be good, to be excellent."""

    metric: str
    """A score as evaluate.py names it ("accuracy", "greedy/wer"), or "gap/NAME" for training minus validation of a
    metric, counted as positive where training is better."""
    minimum: float
    target: float | None = None
    stretch: float | None = None
    lower: bool = False
    """Whether less is better, as with error rates and gaps."""

    def __post_init__(self):
        steps = [step for step in (self.minimum, self.target, self.stretch) if step is not None]
        ordered = sorted(steps, reverse=self.lower)
        require(steps == ordered, self, "target", "between minimum and stretch (lower=True where less is better)")

    def reached(self, value: float) -> tuple[str, ...]:
        """Which of minimum, target and stretch a value reaches."""
        steps = {"minimum": self.minimum, "target": self.target, "stretch": self.stretch}
        fits = {
            name: step is not None and (value <= step if self.lower else value >= step) for name, step in steps.items()
        }
        return tuple(name for name, fit in fits.items() if fit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Component):
    """All that a run is made from."""

    name: str
    """The run's folder, runs/<name>."""
    data: Component
    task: Component
    optim: Optim = Optim()
    train: Train = Train()
    curriculum: Curriculum = Curriculum()
    initial: tuple[Component, ...] = ()
    """`Initial`s (`jaxlip.engine.by_name`): how weights begin, by name; the model's own way where nothing is said."""
    fold: Fold = Fold()
    init_from: str | None = None
    """Run whose best checkpoint gives the initial parameters (a warm start), by name or path."""
    targets: tuple[Target, ...] = ()
    """Success criteria that reports tick, or do not; training does not look at them."""
    grow: bool = False
    """Whether the model may be wider than that run's, or other in parts: what is wider is widened, what is new is fresh
    (`jaxlip.engine.growth`), and what was done is said."""

    def __post_init__(self):
        plain = re.fullmatch(r"\w[\w.+-]{0,99}", self.name)
        require(bool(plain), self, "name", "a letter or digit and up to 99 letters, digits, '.', '_', '+' or '-'")
        for name, value in leaf_fields(self):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name}={value} is not a finite number.")
        if members_of(self.task) > 1 and self.train.accumulate > 1:
            raise ValueError("train.accumulate is for a single network, not for task.members.")


def members_of(task: Component) -> int:
    """Networks that are trained as one, each on batches of its own."""
    return getattr(task, "members", 1)


def load_config(path: str | pathlib.Path) -> Experiment:
    """Runs a config file and returns its `get_config()`. Raises UserError if there is none."""
    path = pathlib.Path(path)
    if not path.is_file():
        found = ", ".join(sorted(str(p) for p in path.parent.glob("*.py"))) or "no config files"
        raise UserError(f"config file {path} does not exist; in {path.parent} there is: {found}.")
    try:
        module = runpy.run_path(str(path))
        experiment = module["get_config"]() if "get_config" in module else None
    except SyntaxError as error:
        raise UserError(f"config file {path} line {error.lineno} is not Python: {error.msg}.") from None
    except UserError:
        raise
    # A config file is the user's own code: whatever it raises is theirs to mend.
    except Exception as error:
        raise UserError(f"config file {path} cannot be loaded: {type(error).__name__}: {error}") from None
    if experiment is None:
        raise UserError(f"config file {path} has no get_config() function, or it returns nothing.")
    if not isinstance(experiment, Experiment):
        raise UserError(f"get_config() in {path} returns a {type(experiment).__name__}, not an Experiment.")
    return experiment


def leaf_fields(component: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ("train.epochs", 40) for every plain field of a nested config."""
    for field in dataclasses.fields(component):  # type: ignore[arg-type]
        value = getattr(component, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaf_fields(value, f"{prefix}{field.name}.")
        elif isinstance(value, tuple) and value and all(map(dataclasses.is_dataclass, value)):
            for number, item in enumerate(value):
                yield from leaf_fields(item, f"{prefix}{field.name}.{number}.")
        else:
            yield f"{prefix}{field.name}", value


def override(component: T, arguments: Sequence[str], prog: str = "jaxlip") -> T:
    """Applies command-line overrides such as `--train.epochs 5`. `--help` prints every field and exits.

    Raises UserError for an unknown field (naming the nearest) or a value that does not fit.
    """
    known = [name for name, _ in leaf_fields(component)]
    for argument in arguments:
        name = argument[2:].split("=")[0].replace("-", "_")
        plain = re.sub(r"(^|\.)no_", r"\1", name)
        if argument.startswith("--") and name not in ("help", *known) and plain not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean --{close[0]}?" if close else "--help lists them all."
            raise UserError(f"unknown option {argument}; {hint}")
    said = io.StringIO()
    helping = "--help" in arguments or "-h" in arguments
    try:
        with contextlib.nullcontext() if helping else contextlib.redirect_stderr(said):
            return tyro.cli(type(component), default=component, args=list(arguments), prog=prog)
    except ValueError as error:
        raise UserError(str(error)) from None
    except SystemExit as exit_:
        if exit_.code == 0:
            raise
        raise UserError(_one_line(said.getvalue())) from None


def _one_line(box: str) -> str:
    """The message inside one of tyro's boxes."""
    lines = [re.sub(r"[│╭╮╰╯─]+", " ", line).strip() for line in box.splitlines()]
    body = [line for line in lines[1:] if line]
    end = next((i for i, line in enumerate(body) if line.startswith(("Argument helptext", "For full help"))), len(body))
    return " ".join(body[:end]) or "the options cannot be read; see --help."


def to_json(value: Any) -> Any:
    """Dataclasses to tagged dicts, tuples to lists; inverse of `from_json`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", **fields}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def from_json(value: Any) -> Any:
    """Inverse of `to_json`; lists come back as tuples. Raises UserError for a class that is no longer there."""
    if isinstance(value, list):
        return tuple(from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    fields = {key: from_json(item) for key, item in value.items() if key != "class"}
    if "class" not in value:
        return fields
    module, _, name = value["class"].partition(":")
    try:
        class_ = getattr(importlib.import_module(module), name)
        if not dataclasses.is_dataclass(class_):
            raise TypeError(f"{name} is not a dataclass")
        return class_(**fields)  # type: ignore[operator]
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"this run was saved with {value['class']}, which cannot be rebuilt here: {error}") from None


def differences(saved: Experiment, asked: Experiment, *, ignore: Sequence[str] = ()) -> list[str]:
    """Lines such as "optim.lr: 0.001 saved, 0.01 asked for" for every field that differs."""
    old, new = flat(saved), flat(asked)
    missing = "(no such field)"
    return [
        f"{name}: {old.get(name, missing)} saved, {new.get(name, missing)} asked for"
        for name in sorted(old.keys() | new.keys())
        if name not in ignore and old.get(name, missing) != new.get(name, missing)
    ]


def flat(component: Component) -> dict[str, Any]:
    """Every field of a nested config by its path, as JSON has it; the class of each component is one of them."""
    return dict(_flat_json(to_json(component)))


def _flat_json(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat_json(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item
