"""Checkpoints that rebuild a run with nothing else: state, config, vocabulary, topology, feature scales, position.

Orbax, asynchronous; the best by the monitored validation metric and the latest are both kept.
"""

import dataclasses
import logging
import pathlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlip.config import Component, Experiment, from_json, to_json
from jaxlip.engine.control import Control
from jaxlip.engine.state import TrainState
from jaxlip.errors import UserError
from jaxlip.metrics.mergeable import Mean

# What orbax raises on files that are missing, truncated or garbled.
DAMAGED = (ValueError, OSError, KeyError, TypeError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position(Component):
    """Where in the run a checkpoint was taken."""

    epoch: int = 0
    """Epochs that are done."""
    dispatch: int = 0
    """Dispatches done in the epoch after them (not 0 only where a signal stopped the run)."""
    sums: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The `Mergeable` metrics of those dispatches."""
    weights: tuple[float, ...] = ()
    """What an example of each group weighs in drawing the epoch's examples; empty where each is seen once."""

    def __post_init__(self):
        # Checkpoints of version 0.1.0 hold every metric as a bare (sum, weight).
        typed = {name: Mean(*item) if isinstance(item, tuple) else item for name, item in self.sums.items()}
        object.__setattr__(self, "sums", typed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Meta(Component):
    """The part of a checkpoint that is not arrays."""

    experiment: Experiment
    spec: Component
    fingerprint: str
    position: Position
    control: Control


class Checkpoints:
    """The checkpoints folder of a run."""

    def __init__(self, folder: pathlib.Path, *, keep_best: int = 1, read_only: bool = False):
        # Imported here: the core must import without orbax, and importing it takes a second.
        import orbax.checkpoint as ocp
        from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

        logging.getLogger("absl").setLevel(logging.ERROR)
        self._folder = folder
        self._ocp = ocp
        best = policy.BestN(get_metric_fn=_monitored, reverse=True, n=keep_best, keep_checkpoints_without_metrics=False)
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                # `best_fn` makes orbax write the metrics; the policy alone decides what is kept.
                best_fn=_monitored,
                best_mode="min",
                preservation_policy=policy.AnyPreservationPolicy([best, policy.LatestN(1)]),
                # A reader must not sweep away what a trainer is just writing.
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
            ),
            item_names=("state", "meta"),
        )

    def save(self, state: TrainState, meta: Meta, monitored: float | None) -> None:
        """Starts saving; `monitored` (lower is better) is None where the run was stopped between evaluations."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        args = self._ocp.args
        self._manager.save(
            step,
            args=args.Composite(state=args.StandardSave(_plain(state)), meta=args.JsonSave(to_json(meta))),
            metrics=None if monitored is None else {"monitored": monitored},
        )

    def wait(self) -> None:
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The step with the lowest monitored validation metric, else the latest."""
        step = self._manager.best_step()
        return self.latest if step is None else step

    def meta(self, step: int) -> Meta:
        args = self._ocp.args
        try:
            saved = self._manager.restore(step, args=args.Composite(meta=args.JsonRestore()))
        except DAMAGED as error:
            raise self._damaged(step, error) from None
        meta = from_json(saved["meta"])
        if not isinstance(meta, Meta):
            raise self._damaged(step, ValueError("its meta item is no run's"))
        return meta

    def _damaged(self, step: int, error: Exception) -> UserError:
        others = ", ".join(str(other) for other in self._manager.all_steps() if other != step) or "none"
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return UserError(f"checkpoint {self._folder / str(step)} cannot be read ({reason}); other steps: {others}.")

    def state(self, step: int, like: TrainState) -> TrainState:
        """The arrays at a step, in the shapes and on the devices of `like`."""
        args = self._ocp.args
        target = jax.tree.map(_abstract, _plain(like))
        said, sys.unraisablehook = sys.unraisablehook, _of_main_thread(sys.unraisablehook)
        try:
            saved = self._manager.restore(step, args=args.Composite(state=args.StandardRestore(target)))
        except DAMAGED as error:
            # Other reads end later, when orbax has closed its event loop, and tensorstore's threads would say so.
            raise self._damaged(step, error) from None
        sys.unraisablehook = said
        return TrainState(**saved["state"])


def _of_main_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook for exceptions that nobody can catch, deaf to those of other threads."""

    def hear(*exception: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            hook(*exception)

    return hear


def _monitored(metrics: dict[str, float]) -> float:
    return metrics["monitored"]


def _plain(state: TrainState) -> dict[str, Any]:
    """The fields that hold something; a checkpoint of a run without, say, a curriculum has no place for it."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: value for name, value in fields.items() if value is not None}


def _abstract(array: Any) -> jax.ShapeDtypeStruct:
    sharding = array.sharding if isinstance(array, jax.Array) else None
    return jax.ShapeDtypeStruct(np.shape(array), array.dtype, sharding=sharding)
