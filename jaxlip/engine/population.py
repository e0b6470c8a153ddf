"""Many runs in one program: their states lie stacked on the device, and one dispatch, mapped over them, moves them all.

Every member is a `Trainer` with its own seed, order of data, fold, scalar hyper-parameters, run folder, checkpoints and
early stopping, and is trained as if it were alone, to float tolerance. What is shared is the data in device memory, one
program and one compilation. Under vmap a member that has nothing to do in a dispatch is computed and thrown away; once
half of them have ended, those are taken out of the stack.

Of several devices each has some of the members to itself, where that comes out even; else all devices share every
member's batches, as in a run that is trained alone.
"""

import collections
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxlip.config import Experiment, flat
from jaxlip.data.batches import Dispatch, Split, sequential_plan
from jaxlip.data.folds import Subset
from jaxlip.engine.averages import averaging
from jaxlip.engine.control import Signals
from jaxlip.engine.loop import NonFiniteLoss, Trainer, add_sums
from jaxlip.engine.memory import Measured
from jaxlip.engine.mesh import models_mesh, over_devices, replicate, stack_models
from jaxlip.engine.optim import optimizer
from jaxlip.engine.own_numbers import NotTogether, differing_scalars, with_scalars
from jaxlip.engine.progress import Progress, format_seconds
from jaxlip.engine.state import TrainState
from jaxlip.engine.step import Program
from jaxlip.models.members import over_members


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """What the program of one member has of its own: `rates_S` f32, the learning rate of every step; `steps` and
    `per_epoch` int32, steps in all and an epoch; `scalars`, hyper-parameters by field ("optim.weight_decay"); `key`, of
    all randomness.
    """

    rates_S: Any
    steps: Any
    per_epoch: Any
    scalars: Any
    key: Any


@dataclasses.dataclass(frozen=True)
class Shared:
    """The program of all members; `experiment` is any one's."""

    experiment: Experiment
    program: Program

    def of(self, member: Member) -> Program:
        """The program of one member; inside vmap."""
        experiment = with_scalars(self.experiment, member.scalars)
        task: Any = experiment.task
        # Built anew so that no number of the task is taken from another member.
        own = any(name.startswith("task.") for name in member.scalars)
        return dataclasses.replace(
            self.program,
            task=task,
            model=task.build(self.program.spec) if own else self.program.model,
            tx=optimizer(experiment.optim),
            schedule=lambda step: member.rates_S[step],
            average=averaging(experiment.optim, steps=member.steps),
            per_epoch=member.per_epoch,
        )

    def dispatch(
        self, member: Member, state: TrainState, data: Any, rows_KB: Int[Array, "K B"], steps: Int[Array, ""]
    ) -> tuple[TrainState, Any]:
        try:
            return self.of(member).dispatch(state, data, rows_KB, steps, member.key)
        except jax.errors.JAXTypeError:
            # Some Python asks for the number, which is one for each member.
            fields = ", ".join(member.scalars)
            raise NotTogether(f"runs that are trained together may not differ in {fields}; train them apart.") from None

    def evaluate(self, member: Member, state: TrainState, data: Any, rows_B: Int[Array, " B"]) -> Any:
        return self.of(member).evaluate(state, data, rows_B)[1]


def fit_all(trainers: Sequence[Trainer]) -> dict[str, str]:
    """Trains runs that are `alike` to their ends, at once where that can be done; returns, by name, why those ended
    whose loss was not finite. Raises Interrupted."""
    if len(trainers) > 1:
        try:
            population = Population(trainers)
            with contextlib.suppress(NonFiniteLoss):
                population.fit()
            return population.failed
        except NotTogether as reason:
            print(f"training them one after the other: {reason}", flush=True)
    failed: dict[str, str] = {}
    for trainer in trainers:
        try:
            trainer.fit()
        except NonFiniteLoss as error:
            failed[trainer.experiment.name] = str(error)
    return failed


@dataclasses.dataclass(frozen=True)
class Round:
    """One dispatch of the population: what each member does in it, None where it waits; `parts` are in its own rows,
    `rows_M` in those of the shared split."""

    bucket: int
    parts: tuple[Any, ...]
    rows_M: np.ndarray


def origin(split: Split) -> tuple[Split, tuple[tuple[int, Any], ...]]:
    """The split whose arrays a member's rows are taken from, and (bucket, rows) there of each of its buckets."""
    if isinstance(split, Subset):
        return split.whole, split.rows
    return split, tuple((bucket, np.arange(len(names))) for bucket, names in enumerate(split.names))


def together(plans: Sequence[Sequence[tuple[int, np.ndarray, Any]]]) -> Iterator[Round]:
    """Members' plans, (bucket, rows, part) each, as rounds: in each, as many as can go on in one bucket."""
    queues = [collections.deque(plan) for plan in plans]
    # Members with fewer steps an epoch may have shorter dispatches.
    longest = max((len(rows) for plan in plans for _, rows, _ in plan), default=0)
    while heads := [queue[0] for queue in queues if queue]:
        bucket = collections.Counter(head[0] for head in heads).most_common(1)[0][0]
        going = [queue.popleft() if queue and queue[0][0] == bucket else None for queue in queues]
        rows_M = np.full((len(queues), longest, *heads[0][1].shape[1:]), -1, np.int32)
        for own, head in zip(rows_M, going, strict=True):
            if head:
                own[: len(head[1])] = head[1]
        yield Round(bucket, tuple(head[2] if head else None for head in going), rows_M)


@dataclasses.dataclass(frozen=True)
class _Named:
    """A member's voice."""

    name: str
    progress: Progress

    @property
    def eta(self) -> str:
        return self.progress.eta

    def say(self, line: str) -> None:
        self.progress.say(f"{self.name}  {line}")


class Population:
    """Trainers that go on together; those that have ended, as resumed ones may have, only report."""

    def __init__(self, trainers: Sequence[Trainer], over: Callable[..., Any] = over_members):
        """`over` maps a function over the members; one by one, a member that waits costs nothing.

        Raises NotTogether for runs that cannot be trained in one program.
        """
        self.trainers = list(trainers)
        first = self.trainers[0]
        self.scalars = differing_scalars([trainer.experiment for trainer in trainers])
        if first.experiment.train.sampling.on:
            raise NotTogether("train.sampling is for runs that are trained alone; their order is their own.")
        for name in ("train_split", "val_split"):
            wholes = {id(origin(getattr(trainer, name))[0]) for trainer in self.trainers}
            assert len(wholes) == 1, "members take their examples from the same split in memory"
        self.shared, self.over = Shared(first.experiment, first.program), over
        self.failed: dict[str, str] = {}
        self._stack([trainer for trainer in self.trainers if not trainer.ended])

    def _stack(self, members: Sequence[Trainer]) -> None:
        self.members = list(members)
        if members:
            each = self.trainers[0].mesh
            self.mesh = each if len(members) % each.size or each.size == 1 else models_mesh(each)
            self.dispatch = Measured(self._program(self.shared.dispatch, in_axes=(0, 0, None, 0, 0), donate_argnums=1))
            self.evaluate = self._program(self.shared.evaluate, in_axes=(0, 0, None, 0))
            own = (replicate(self._own(trainer), each) for trainer in members)
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
            self.own, self.states = stack_models(stacked, self.mesh)

    def _program(self, function: Callable[..., Any], in_axes: tuple[int | None, ...], **options: Any) -> Any:
        mapped = self.over(function, in_axes=in_axes)
        if "models" in self.mesh.axis_names:
            mapped = over_devices(mapped, self.mesh, in_axes)
        return jax.jit(mapped, **options)

    def _own(self, trainer: Trainer) -> tuple[Member, TrainState]:
        """What the program needs of a member, as arrays of the same shapes for all."""
        fields = flat(trainer.experiment)
        longest = max(other.total_steps for other in self.trainers)
        rates_S = jax.vmap(trainer.program.schedule)(jnp.arange(trainer.total_steps))
        member = Member(
            rates_S=jnp.pad(rates_S, (0, longest - len(rates_S))),
            steps=jnp.asarray(trainer.total_steps, jnp.int32),
            per_epoch=jnp.asarray(trainer.per_epoch, jnp.int32),
            scalars={name: jnp.asarray(fields[name], jnp.float32) for name in self.scalars},
            key=trainer.key,
        )
        return member, trainer.state

    def _unstack(self) -> None:
        """Gives every member its state back."""
        states = replicate(self.states, self.trainers[0].mesh)
        for number, trainer in enumerate(self.members):
            trainer.state = jax.tree.map(lambda leaf, number=number: leaf[number], states)

    def fit(self) -> list[dict[str, Any]]:
        """Trains all to their ends; returns the last logged row of each. Raises Interrupted, and NonFiniteLoss once all
        others have ended."""
        done = sum(int(trainer.state.step) for trainer in self.trainers)
        progress = Progress(done=done, total=sum(trainer.total_steps for trainer in self.trainers))
        if self.members:
            self.dispatch.say = progress.say
        first = self.trainers[0]
        put = functools.partial(replicate, mesh=first.mesh)
        feeds = [origin(split)[0].feed(put) for split in (first.train_split, first.val_split)]
        with contextlib.ExitStack() as stack:
            events = {id(trainer): stack.enter_context(trainer.folder.events()) for trainer in self.members}
            signals = stack.enter_context(Signals())
            while going := [trainer for trainer in self.members if self._going(trainer)]:
                if 2 * len(going) <= len(self.members):
                    self._unstack()
                    self._stack(going)
                began = time.perf_counter()
                with jax.set_mesh(self.mesh):
                    self._train_epoch(feeds[0], signals, progress)
                    seconds = time.perf_counter() - began
                    self._end_epoch(going, feeds[1], seconds, progress, events)
                if signals.received:
                    self._stop(signals)
        for trainer in self.trainers:
            trainer.checkpoints.wait()
        progress.close()
        progress.say(f"done in {format_seconds(time.perf_counter() - progress.start)}")
        if self.failed:
            raise NonFiniteLoss("; ".join(f"{name}: {reason}" for name, reason in self.failed.items()))
        return [(trainer.folder.read_metrics() or [{}])[-1] for trainer in self.trainers]

    def _going(self, trainer: Trainer) -> bool:
        return not trainer.ended and trainer.experiment.name not in self.failed

    def _train_epoch(self, feed: Any, signals: Signals, progress: Progress) -> None:
        """An epoch of everybody who has not ended, or what is left of it."""
        plans = []
        for trainer in self.members:
            _, places = origin(trainer.train_split)
            plan = trainer.plan() if self._going(trainer) else []
            plans.append([(*_there(places, part.bucket, part.rows_KB), part) for part in plan])
        rounds = list(together(plans))
        batches = feed.batches([(round_.bucket, round_.rows_M) for round_ in rounds])
        for round_, (data, rows_MKB) in zip(rounds, batches, strict=True):
            # A failed member needs no steps, and its state is not looked at any more.
            counts_M = np.array([part.steps if part else 0 for part in round_.parts], np.int32)
            steps_M = stack_models(counts_M, self.mesh)
            with jax.transfer_guard("disallow"):
                self.states, sums = self.dispatch(self.own, self.states, data, rows_MKB, steps_M)
            sums, steps, bad_steps = jax.device_get((sums, self.states.step, self.states.bad_step))
            for number, (trainer, part) in enumerate(zip(self.members, round_.parts, strict=True)):
                if part and self._going(trainer):
                    own = jax.tree.map(lambda leaf, number=number: leaf[number], sums)
                    self._advance(trainer, part, own, int(steps[number]), int(bad_steps[number]), progress)
            progress.advance(int(counts_M.sum()), loss=f"{float(np.mean(sums['loss'].value)):.3f}")
            if signals.received and round_ is not rounds[-1]:
                self._stop(signals)

    def _advance(self, trainer: Trainer, part: Dispatch, sums: Any, step: int, bad: int, progress: Progress) -> None:
        with self._alone(trainer, progress):
            trainer.advance(part, sums, step=step, bad_step=bad)

    @contextlib.contextmanager
    def _alone(self, trainer: Trainer, progress: Progress) -> Iterator[None]:
        """A loss that is not finite ends its member alone."""
        try:
            yield
        except NonFiniteLoss as error:
            name = trainer.experiment.name
            self.failed[name] = str(error)
            progress.say(f"{name} stops: {error}")

    def _end_epoch(
        self, going: Sequence[Trainer], feed: Any, seconds: float, progress: Progress, events: dict[int, Any]
    ) -> None:
        """Validates, logs and saves those that are due."""
        sums = {id(trainer): trainer.end_epoch() for trainer in going if self._going(trainer)}
        due = [trainer for trainer in going if id(trainer) in sums and trainer.evaluation_due]
        if not due:
            return
        validated = self._validate(feed)
        self._unstack()
        speed = sum(len(trainer.train_split) for trainer in going) / seconds
        for trainer, val in zip(self.members, validated, strict=True):
            if trainer not in due:
                continue
            voice = _Named(trainer.experiment.name, progress)
            with self._alone(trainer, progress):
                trainer.log(sums[id(trainer)], val, speed, voice, events[id(trainer)])
            if trainer.ended:
                voice.say(trainer.closing())
        scales_M = np.array([trainer.control.lr_scale for trainer in self.members], np.float32)
        self.states = dataclasses.replace(self.states, lr_scale=stack_models(scales_M, self.mesh))

    def _validate(self, feed: Any) -> list[dict[str, float]]:
        """Every member's metrics on its own validation examples."""
        plans = []
        for trainer in self.members:
            _, places = origin(trainer.val_split)
            plan = sequential_plan(trainer.val_split, batch=trainer.experiment.train.batch)
            plans.append([(*_there(places, bucket, rows_B), True) for bucket, rows_B in plan])
        rounds = list(together(plans))
        totals: list[dict[str, Any]] = [{} for _ in self.members]
        batches = feed.batches([(round_.bucket, round_.rows_M) for round_ in rounds])
        for round_, (data, rows_MB) in zip(rounds, batches, strict=True):
            sums = jax.device_get(self.evaluate(self.own, self.states, data, rows_MB))
            for number, part in enumerate(round_.parts):
                if part:
                    own = jax.tree.map(lambda leaf, number=number: leaf[number], sums)
                    totals[number] = add_sums(totals[number], own)
        return [{name: statistic.result() for name, statistic in total.items()} for total in totals]

    def _stop(self, signals: Signals) -> None:
        self._unstack()
        going = [trainer for trainer in self.members if self._going(trainer)]
        for trainer in going:
            trainer.save_unfinished()
        for trainer in self.trainers:
            trainer.checkpoints.wait()
        raise signals.interrupted(f"with {len(going)} of {len(self.trainers)} runs going on")


def _there(places: tuple[tuple[int, Any], ...], bucket: int, rows: np.ndarray) -> tuple[int, np.ndarray]:
    """A bucket and rows of a member's split, in the split that all share; -1 stays -1."""
    there, known_N = places[bucket]
    return there, np.where(rows >= 0, known_N[np.maximum(rows, 0)], -1).astype(np.int32)
