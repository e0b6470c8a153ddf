"""What a run left in its folder, as doctor, compare and the report read it: no model, no data, no JAX."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxlip.config import Target, from_json
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.metrics.direction import higher_is_better
from jaxlip.metrics.scores import Draws, Score

HEADLINES = ("accuracy", "ccc", "r_composite", "token_error", "wer", "mse")
"""What a run is judged by, where its config does not say: the first of these that it logged, else its loss."""
NOT_SCORES = ("loss", "blank", "infeasible", "grad_norm", "lr")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A metric over epochs, where it was logged and finite."""

    epochs_E: np.ndarray
    values_E: np.ndarray

    def __len__(self) -> int:
        return len(self.values_E)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """`config` is the experiment as JSON, `data` what was read, `rows` one dict an evaluation, `scores` what
    evaluate.py found by split, `failure` what training ended of if it did not end well, `seconds` how long it took;
    `checks` are preflight's."""

    name: str
    config: dict[str, Any]
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    scores: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    failure: str = ""
    seconds: float | None = None
    checks: list[dict[str, str]] = dataclasses.field(default_factory=list)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)

    def option(self, name: str, default: Any = None) -> Any:
        """A field of the config by its path, "optim.lr"."""
        value: Any = self.config
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    def options(self) -> Iterator[tuple[str, Any]]:
        """("optim.lr", 0.001) for every plain field."""
        yield from _leaves(self.config)

    def curve(self, name: str) -> Curve:
        points = [(row["epoch"], row[name]) for row in self.rows if _finite(row.get(name))]
        epochs, values = zip(*points, strict=True) if points else ((), ())
        return Curve(epochs_E=np.array(epochs, float), values_E=np.array(values, float))

    @functools.cached_property
    def metrics(self) -> list[str]:
        """Names that were logged of validation, in their order."""
        return list(dict.fromkeys(key[4:] for row in self.rows for key in row if key.startswith("val/")))

    @functools.cached_property
    def headline(self) -> str:
        """The metric that the run is judged by."""
        asked = [target.metric for target in self.targets] + [self.option("train.monitor", "loss")]
        trained = {key for row in self.rows for key in row if key.startswith("train/")}
        wanted = [name for name in (*asked, *HEADLINES) if name not in NOT_SCORES and name in self.metrics]
        return next((name for name in wanted if f"train/{name}" in trained), next(iter(wanted), "loss"))

    @functools.cached_property
    def targets(self) -> tuple[Target, ...]:
        return tuple(from_json(self.config.get("targets") or []))

    @property
    def scored(self) -> tuple[str, dict[str, Any]] | None:
        """The split that tells most, test before val, and its scores."""
        return next(((split, self.scores[split]) for split in ("test", "val") if split in self.scores), None)

    @property
    def trainable(self) -> int | None:
        return next((s["parameters"]["trainable"] for s in self.scores.values() if "parameters" in s), None)

    def score(self, split: str, name: str) -> Score | None:
        """A score with its draws, None where it was not measured."""
        figures = self.scores.get(split, {})
        if name not in figures.get("scores", {}):
            return None
        kept = figures.get("draws", {}).get(name)
        draws = Draws(values_R=np.array(kept["values"]), groups=kept["groups"]) if kept else None
        return Score(**figures["scores"][name], draws=draws)

    def gap(self, name: str) -> float | None:
        """How much better training is than validation: both in inference where that was scored, else as logged last."""
        sign = 1 if higher_is_better(name) else -1
        for figures in self.scores.values():
            if both := figures.get("gap", {}).get(name):
                return sign * (both["train"] - both["val"])
        train, val = self.curve(f"train/{name}"), self.curve(f"val/{name}")
        return sign * float(train.values_E[-1] - val.values_E[-1]) if len(train) and len(val) else None

    def reached(self, target: Target) -> float | None:
        """The value that a success criterion is about, None where nothing says it."""
        if target.metric.startswith("gap/"):
            return self.gap(target.metric[4:])
        if self.scored and target.metric in self.scored[1]["scores"]:
            return self.scored[1]["scores"][target.metric]["value"]
        curve = self.curve(f"val/{target.metric}").values_E
        return float(curve.min() if target.lower else curve.max()) if len(curve) else None


def read_record(folder: RunFolder) -> Record:
    """Raises UserError where a file of the run is no JSON."""
    saved, ended = _read_json(folder.config), _read_json(folder.ended) if folder.ended.is_file() else {}
    scores = {path.stem.removeprefix("scores_"): _read_json(path) for path in sorted(folder.path.glob("scores_*.json"))}
    return Record(
        name=folder.path.name,
        config=saved["experiment"],
        data=saved.get("data", {}),
        rows=folder.read_metrics(),
        scores=scores,
        failure=ended.get("failure", ""),
        seconds=ended.get("seconds"),
        checks=saved.get("preflight", []),
        environment=saved.get("environment", {}),
    )


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _leaves(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif key != "class":
            yield f"{prefix}{key}", value
