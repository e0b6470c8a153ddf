"""Word models at work on made-up clips: what is timed where there are no data."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlip.config import Experiment
from jaxlip.data.batches import FaceBatch
from jaxlip.data.words import WordSpec
from jaxlip.engine.optim import optimizer
from jaxlip.engine.precision import may_scale, precision_of
from jaxlip.engine.schedules import schedule
from jaxlip.engine.state import TrainState, initial_state
from jaxlip.engine.step import Program

STEPS = 1000
"""Steps that the schedule of the learning rate is laid out for."""


def computed_in(experiment: Experiment, precision: str, lstm: str = "scan") -> Experiment:
    """The experiment as it trains in this precision, with this backend of LSTMs."""
    train = dataclasses.replace(experiment.train, precision=precision, lstm=lstm)
    return dataclasses.replace(experiment, train=train)


def word_program(experiment: Experiment, frames: int) -> Program:
    """What a step of this experiment on windows of so many frames is made of."""
    task: Any = experiment.task
    spec = task.shape_spec(dataclasses.replace(experiment.data, window=frames, buckets=(frames,)))  # type: ignore
    return Program(
        task=task,
        model=task.build(spec),
        spec=spec,
        tx=optimizer(experiment.optim),
        schedule=schedule(experiment.optim, steps=STEPS, per_epoch=STEPS // 10),
        precision=precision_of(experiment.train.precision),
        lstm="scan" if experiment.train.lstm == "auto" else experiment.train.lstm,
    )


def made_up_clips(spec: WordSpec, clips: int, frames: int, *, seed: int = 0) -> FaceBatch:
    """Clips of noise in which every frame is real and shows a face; on the host."""
    rng = np.random.default_rng(seed)
    ones_BT = np.ones((clips, frames), bool)
    return FaceBatch(
        landmarks_BTVC=rng.standard_normal((clips, frames, len(spec.input.ids), 3), np.float32),
        frames_BT=ones_BT,
        detected_BT=ones_BT,
        speech_BT=rng.random((clips, frames)) < 0.5,
        target=rng.integers(0, len(spec.classes), clips).astype(np.int32),
        examples_B=np.ones(clips, bool),
    )


class WordSteps:
    """A word model, and the clips that it takes its batches from, both on the device."""

    def __init__(self, experiment: Experiment, *, frames: int, clips: int):
        self.program = word_program(experiment, frames)
        self.clips = clips
        self.host = made_up_clips(self.program.spec, clips, frames)  # type: ignore[arg-type]
        self.data = jax.device_put(self.host)
        self.key = jax.random.key(1)
        self.dispatch = jax.jit(self.program.dispatch, donate_argnums=0)
        self.evaluate = jax.jit(self.program.evaluate)
        scaled = may_scale(experiment.train.precision)
        init = jax.jit(lambda key: initial_state(self.program.model, self.program.tx, False, key, scaled=scaled))
        self.state: TrainState = init(jax.random.key(0))

    def rows(self, *shape: int) -> jax.Array:
        """Clips drawn at random, by their numbers."""
        return jax.device_put(np.random.default_rng(1).integers(0, self.clips, shape).astype(np.int32))

    def training_arguments(self, batch: int, steps: int) -> tuple[Any, ...]:
        """Of `dispatch`, for steps that draw their batches at random."""
        return self.state, self.data, self.rows(steps, batch), jax.device_put(np.int32(steps)), self.key

    def training(self, batch: int, steps: int, dispatch: Any = None) -> Callable[[], None]:
        """A function that makes `steps` training steps in one dispatch, which may be compiled already, and waits for
        them."""
        dispatch = dispatch or self.dispatch
        _, *rest = self.training_arguments(batch, steps)

        def run() -> None:
            self.state, sums = dispatch(self.state, *rest)
            jax.block_until_ready(sums)

        return run

    def reading(self, rows_B: jax.Array, evaluate: Any = None) -> Callable[[], jax.Array]:
        """A function that gives the logits [B, K] of these clips in inference, and waits for them."""
        evaluate = evaluate or self.evaluate
        return lambda: jax.block_until_ready(evaluate(self.state, self.data, rows_B))[0]
