"""The training loop: one readable pass from data to the last checkpoint."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np

from jaxlip.config import Experiment, differences, members_of
from jaxlip.data.batches import Corpus, Dispatch, Feed, Split, epoch_plan, sequential_plan, steps_per_epoch
from jaxlip.engine.averages import averaging
from jaxlip.engine.by_name import initialized, matching
from jaxlip.engine.checkpoint import Checkpoints, Meta, Position
from jaxlip.engine.control import Control, Signals
from jaxlip.engine.curriculum import count_groups
from jaxlip.engine.growth import Growth, grown
from jaxlip.engine.lstm_choice import choose
from jaxlip.engine.memory import Measured
from jaxlip.engine.mesh import Placement, data_mesh, replicate, replicated_outputs
from jaxlip.engine.optim import optimizer
from jaxlip.engine.precision import may_scale, precision_of
from jaxlip.engine.progress import Progress, Voice, format_seconds
from jaxlip.engine.run import RunFolder
from jaxlip.engine.sampling import groups_of_examples, sampling_weights
from jaxlip.engine.schedules import schedule
from jaxlip.engine.state import TrainState, initial_state
from jaxlip.engine.step import Program
from jaxlip.errors import UserError
from jaxlip.metrics.direction import higher_is_better
from jaxlip.models.base import Flat

# Fields that may change when a run is resumed: they do not change what a step computes (the data's fingerprint says
# whether a folder that moved is still the same data, and where landmarks lie changes no bit; another `train.lstm` is an
# explicit wish, and changes rounding alone).
FREE_ON_RESUME = (
    "name",
    "init_from",
    "grow",
    "targets",
    "train.patience",
    "train.keep_best",
    "train.lstm",
    "data.root",
    "data.splits",
    "data.landmarks",
    "data.resident_gib",
)


class NonFiniteLoss(UserError):
    """Training met a loss or gradient that is not finite."""


class Trainer:
    """A run in progress: corpus, program, state and position."""

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        corpus: Corpus,
        like: "Trainer | None" = None,
        lstm: str | None = None,
    ):
        """`like` is a trainer of the same model, whose initialisation need not be compiled again; `lstm`, what computes
        LSTMs, is chosen where it is not given."""
        self.experiment, self.folder, self.corpus = experiment, folder, corpus
        train = experiment.train
        self.train_split, self.val_split = corpus.splits["train"], corpus.splits["val"]
        self.per_epoch = steps_per_epoch(self.train_split, train.batch)
        self.total_steps = train.epochs * self.per_epoch
        self.mesh = data_mesh()
        self.program = Program(
            task=experiment.task,  # type: ignore[arg-type]
            model=initialized(experiment.task.build(corpus.spec), experiment.initial),  # type: ignore
            spec=corpus.spec,
            tx=optimizer(experiment.optim),
            schedule=schedule(experiment.optim, steps=self.total_steps, per_epoch=self.per_epoch),
            average=averaging(experiment.optim, steps=self.total_steps),
            accumulate=train.accumulate,
            rates=experiment.optim.rates,
            curriculum=experiment.curriculum,
            per_epoch=self.per_epoch,
            precision=precision_of(train.precision),
            lstm=lstm or choose(experiment, corpus).backend,
        )
        outputs = replicated_outputs(self.mesh)
        self.dispatch = Measured(jax.jit(self.program.dispatch, donate_argnums=0, **outputs))
        self.evaluate = jax.jit(self.program.evaluate, **outputs)
        self.key = replicate(jax.random.key(train.seed + 1), self.mesh)
        groups = count_groups(experiment, corpus.spec)
        build = functools.partial(
            initial_state,
            self.program.model,
            self.program.tx,
            experiment.optim.averaged,
            groups=groups,
            scaled=may_scale(train.precision),
        )
        self.init = like.init if like else jax.jit(build)
        self.state = replicate(self.init(jax.random.key(train.seed)), self.mesh)
        matching(self.state.params, experiment.optim.rates, "optim.rates")
        self.position, self.control = Position(), Control()
        self.groups = groups_of_examples(experiment.task, self.train_split, corpus.spec) if train.sampling.on else []
        self.said: set[str] = set()
        self.watch: Callable[[dict[str, Any]], None] | None = None
        """Is given every logged row once it is saved."""
        self.stopped = ""
        """Why the run ends before its time, where who watches it has said so."""
        self.checkpoints = Checkpoints(folder.checkpoints, keep_best=train.keep_best)

    def meta(self) -> Meta:
        return Meta(
            experiment=self.experiment,
            spec=self.corpus.spec,
            fingerprint=self.corpus.fingerprint,
            position=self.position,
            control=self.control,
        )

    def grow(self, params: Flat, model_state: Flat) -> Growth:
        """Takes all that fits from another run, widened where this model is wider; returns what was taken of it."""
        params, growth = grown(self.state.params, params)
        model_state, _ = grown(self.state.model_state, model_state)
        self._begin_from(params, model_state)
        return growth

    def warm_start(self, params: Flat, model_state: Flat, source: str) -> None:
        """Takes parameters and batch statistics from another run. Raises UserError naming what does not fit."""
        for have, given in ((self.state.params, params), (self.state.model_state, model_state)):
            shapes = [{name: tuple(value.shape) for name, value in tree.items()} for tree in (given, have)]
            names = sorted(shapes[0].keys() | shapes[1].keys())
            wrong = [name for name in names if shapes[0].get(name) != shapes[1].get(name)]
            if wrong:
                there, here = (tree.get(wrong[0], "absent") for tree in shapes)
                raise UserError(
                    f"init_from={source} does not fit this model: {len(wrong)} arrays differ, the first is {wrong[0]}, "
                    f"{there} there and {here} here; --grow takes what fits."
                )
        self._begin_from(params, model_state)

    def _begin_from(self, params: Flat, model_state: Flat) -> None:
        params, model_state = replicate((params, model_state), self.mesh)
        average = dict(params) if self.state.average else {}
        self.state = dataclasses.replace(self.state, params=params, model_state=model_state, average=average)

    def resume(self) -> None:
        """Continues from the latest checkpoint. Raises UserError if config or data are not what it was saved with."""
        step = self.checkpoints.latest
        assert step is not None, "the caller looks for a checkpoint first"
        meta = self.checkpoints.meta(step)
        if changed := differences(meta.experiment, self.experiment, ignore=FREE_ON_RESUME):
            raise UserError(f"{self.folder.path} was trained with another config: {'; '.join(changed)}.")
        if meta.fingerprint != self.corpus.fingerprint:
            raise UserError(
                f"{self.folder.path} was trained on other data: fingerprint {meta.fingerprint} saved, "
                f"{self.corpus.fingerprint} found; counts now {self.corpus.counts['examples']}."
            )
        self.state = self.checkpoints.state(step, self.state)
        self.position, self.control = meta.position, meta.control
        self.folder.rewind_metrics(step)

    def fit(self) -> dict[str, Any]:
        """Trains to the end; returns the last logged row. Raises NonFiniteLoss or Interrupted."""
        train = self.experiment.train
        progress = Progress(done=int(self.state.step), total=self.total_steps, bar=self.folder.writes)
        self.dispatch.say = progress.say
        put = Placement(self.mesh)
        feed, val_feed = self.train_split.feed(put), self.val_split.feed(put)
        row: dict[str, Any] = (self.folder.read_metrics() or [{}])[-1]
        with self.folder.events() as events, Signals() as signals, jax.set_mesh(self.mesh):
            while not self.ended:
                began = time.perf_counter()
                self._train_epoch(feed, signals, progress)
                speed = len(self.train_split) / (time.perf_counter() - began)
                sums = self.end_epoch()
                if not self.evaluation_due:
                    continue
                _, val = run_split(self.evaluate, self.state, self.val_split, val_feed, train.batch)
                row = self.log(sums, val, speed, progress, events)
                if signals.agreed():
                    self._stop(signals)
        self.checkpoints.wait()
        progress.close()
        progress.say(f"{self.closing()} in {format_seconds(time.perf_counter() - progress.start)}")
        return row

    @property
    def ended(self) -> bool:
        train = self.experiment.train
        return self.position.epoch >= train.epochs or self.control.exhausted(train) or bool(self.stopped)

    def closing(self) -> str:
        """Why the run has ended."""
        train = self.experiment.train
        complete = self.position.epoch >= train.epochs
        waited = f"no better validation {train.monitor} in {train.patience} evaluations"
        return f"done after epoch {self.position.epoch} ({self.stopped or ('all epochs' if complete else waited)})"

    def plan(self) -> list[Dispatch]:
        """What is left of the epoch."""
        train = self.experiment.train
        if train.sampling.on and not self.position.dispatch:
            self.position = dataclasses.replace(self.position, weights=self._sampling_weights())
        weights_G = np.array(self.position.weights)
        whole = epoch_plan(
            self.train_split,
            batch=train.batch,
            orders=members_of(self.experiment.task),
            per_dispatch=min(train.steps_per_dispatch, self.per_epoch),
            seed=train.seed,
            epoch=self.position.epoch,
            weights=[weights_G[groups_N] for groups_N in self.groups] if train.sampling.on else None,
        )
        return whole[self.position.dispatch :]

    def _train_epoch(self, feed: Feed, signals: Signals, progress: Progress) -> None:
        plan = self.plan()
        batches = feed.batches([(part.bucket, part.rows_KB) for part in plan])
        for left, (part, (data, rows_KB)) in enumerate(zip(plan, batches, strict=True), start=1 - len(plan)):
            steps = replicate(np.int32(part.steps), self.mesh)
            with jax.transfer_guard("disallow"):
                self.state, sums = self.dispatch(self.state, data, rows_KB, steps, self.key)
            sums = jax.device_get(sums)
            self.advance(part, sums, step=int(self.state.step), bad_step=int(self.state.bad_step))
            progress.advance(part.steps, epoch=self.position.epoch + 1, loss=f"{sums['loss'].value:.3f}")
            if left < 0 and signals.agreed():
                self._stop(signals)

    def advance(self, part: Dispatch, sums: Any, *, step: int, bad_step: int) -> None:
        """Notes that a dispatch has been done and what it measured. Raises NonFiniteLoss."""
        if bad_step >= 0:
            self._name_non_finite(part, step - part.steps, bad_step)
        position = self.position
        self.position = dataclasses.replace(
            position, dispatch=position.dispatch + 1, sums=add_sums(position.sums, sums)
        )

    def end_epoch(self) -> dict[str, Any]:
        """Goes on to the next epoch; returns the metrics of the one that is done."""
        sums = self.position.sums
        self.position = Position(epoch=self.position.epoch + 1)
        return sums

    @property
    def evaluation_due(self) -> bool:
        train = self.experiment.train
        return self.position.epoch % train.eval_epochs == 0 or self.position.epoch >= train.epochs

    def _sampling_weights(self) -> tuple[float, ...]:
        sampling, count = self.experiment.train.sampling, 1 + max(int(groups_N.max()) for groups_N in self.groups)
        recent = None if self.state.recent is None else jax.device_get(self.state.recent)
        return sampling_weights(sampling, self.groups, count if recent is None else len(recent), recent)

    def _name_non_finite(self, part: Dispatch, first: int, bad: int) -> NoReturn:
        names = self.train_split.names[part.bucket]
        clips = ", ".join(names[int(row)] for row in part.rows_KB[bad - first] if row >= 0)
        self.checkpoints.wait()
        good = self.checkpoints.latest
        saved = f"checkpoint {good} in {self.folder.checkpoints}" if good is not None else "none yet"
        raise NonFiniteLoss(
            f"loss or gradient is not finite at step {bad}; last good checkpoint: {saved}; clips of the batch: {clips}."
        )

    def _check_metrics(self, val: dict[str, float]) -> None:
        if not math.isfinite(val["loss"]):
            raise NonFiniteLoss(
                f"the validation loss is {val['loss']} after step {int(self.state.step)}; "
                f"last good checkpoint: {self.checkpoints.latest}."
            )
        if self.experiment.train.monitor not in val:
            raise UserError(f"Train.monitor={self.experiment.train.monitor!r} must be one of {', '.join(val)}.")

    def log(self, sums: dict, val: dict[str, float], speed: float, progress: Voice, events: Any) -> dict[str, Any]:
        """Updates the control, saves, and writes the epoch's row to metrics.jsonl, TensorBoard and the screen.

        Raises NonFiniteLoss.
        """
        self._check_metrics(val)
        monitor = self.experiment.train.monitor
        monitored = -val[monitor] if higher_is_better(monitor) else val[monitor]
        self.control = self.control.after(monitored, self.experiment.optim, self.experiment.train)
        if self._phase_begins():
            # What is learned changes: the wait for something better starts anew, at the full rate.
            self.control = Control()
        self.state = dataclasses.replace(self.state, lr_scale=replicate(np.float32(self.control.lr_scale), self.mesh))
        row = {
            "step": int(self.state.step),
            "epoch": self.position.epoch,
            **{f"train/{name}": statistic.result() for name, statistic in sums.items()},
            **{f"val/{name}": value for name, value in val.items()},
        }
        # Logged before it is saved: a row without its checkpoint is dropped on resumption, the reverse would be lost.
        self.folder.append_metrics(row)
        self.checkpoints.save(self.state, self.meta(), monitored)
        for name, value in {**row, "clips_per_second": speed}.items():
            events.add_scalar(name, value, row["step"])
        best = " best" if self.control.waited == 0 else ""
        shown = [f"{k} {row[k]:.4f}" for k in row if k.startswith(("train/loss", "train/acc", "val/"))]
        progress.say(
            f"epoch {row['epoch']:3d}/{self.experiment.train.epochs}  step {row['step']:6d}  {'  '.join(shown)}"
            f"  {speed:.0f} clips/s  eta {progress.eta}{best}"
        )
        warm = self.position.epoch > self.experiment.optim.warmup_epochs
        advice = self.program.task.advice(val) if warm else None
        if advice and advice not in self.said:
            self.said.add(advice)
            progress.say(f"warning: {advice}")
        if self.watch:
            self.watch(row)
        return row

    def _phase_begins(self) -> bool:
        """Whether a phase of the curriculum starts with the epoch (or in the steps) after this evaluation."""
        curriculum, past = self.experiment.curriculum, self.experiment.train.eval_epochs
        unit = 1 if curriculum.unit == "epochs" else self.per_epoch
        return curriculum.begins(float((self.position.epoch - past) * unit), float(self.position.epoch * unit))

    def _stop(self, signals: Signals) -> None:
        self.save_unfinished()
        self.checkpoints.wait()
        raise signals.interrupted(f"at step {int(self.state.step)}")

    def save_unfinished(self) -> None:
        """Starts saving in the middle of an epoch."""
        self.checkpoints.save(self.state, self.meta(), None)


def add_sums(sums: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Statistics merged on the host, in double precision."""
    added = {name: jax.tree.map(float, statistic) for name, statistic in more.items()}
    return {name: sums[name].merge(added[name]) if name in sums else added[name] for name in added}


def run_split(evaluate, state: TrainState, split: Split, feed: Feed, batch: int) -> tuple[list[Any], dict[str, float]]:
    """Outputs of every example, one pytree a bucket with rows in its order; and the metrics' values over all."""
    outputs: list[list[Any]] = [[] for _ in split.buckets]
    sums: dict[str, Any] = {}
    plan = sequential_plan(split, batch=batch)
    for (bucket, rows_B), (data, placed_B) in zip(plan, feed.batches(plan), strict=True):
        out, metrics = jax.device_get(evaluate(state, data, placed_B))
        outputs[bucket].append(jax.tree.map(lambda array, real=rows_B >= 0: array[real], out))
        sums = add_sums(sums, metrics)
    joined = [jax.tree.map(lambda *parts: np.concatenate(parts), *bucket) for bucket in outputs]
    return joined, {name: statistic.result() for name, statistic in sums.items()}
