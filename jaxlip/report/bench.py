"""How fast this machine trains and reads, and what keeps it from doing so faster."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.config import Experiment
from jaxlip.data.face import FaceData
from jaxlip.losses.ctc import ctc_loss
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.report.roofline import (
    Machine,
    Work,
    compile_and_count,
    least_seconds,
    measure_machine,
    median_seconds,
    what_binds,
)
from jaxlip.report.synthetic import WordSteps, computed_in
from jaxlip.tasks.word import Word

CTC_SIZES = (75, 28, 32)
"""Frames, tokens and labels of a sentence in characters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    batch: int = 32
    frames: int = 29
    steps: int = 1
    """Training steps a dispatch."""
    budget: float = 3.0
    """Seconds that each number may take, compilation aside."""


def word_models() -> dict[str, Experiment]:
    """V4 and V3 as their configs have them."""
    return {
        "v4": Experiment(name="v4", data=FaceData(), task=Word(model=GraphLstm(hidden=192, dropout=0.6))),
        "v3": Experiment(name="v3", data=FaceData(), task=Word(model=GraphLstm(hidden=128, dropout=0.7))),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed:
    """One measured thing: seconds and work of a step on `examples` clips."""

    name: str
    seconds: float
    examples: int
    asked: Work

    def row(self, machine: Machine) -> dict[str, Any]:
        """For a table and for JSON."""
        memory, arithmetic = least_seconds(self.asked, machine)
        return {
            "what": self.name,
            "clips_per_second": round(self.examples / self.seconds, 1),
            "ms": round(1e3 * self.seconds, 3),
            "gigabytes": round(self.asked.bytes / 1e9, 4),
            "gigaflops": round(self.asked.flops / 1e9, 4),
            "least_ms_memory": round(1e3 * memory, 3),
            "least_ms_arithmetic": round(1e3 * arithmetic, 3),
            "binds": what_binds(self.asked, machine, self.seconds),
        }


def time_words(name: str, experiment: Experiment, sizes: Sizes, say: Callable[[str], None]) -> Iterator[Timed]:
    """Training step and inference of a word model on made-up clips."""
    words = WordSteps(experiment, frames=sizes.frames, clips=4 * sizes.batch)
    say(f"{name}: compiling a training step")
    arguments = words.training_arguments(sizes.batch, sizes.steps)
    # Counted as one step: the number of steps is data.
    dispatch, asked = compile_and_count(words.dispatch, *arguments)
    say(f"{name}: training")
    seconds = median_seconds(words.training(sizes.batch, sizes.steps, dispatch), sizes.budget) / sizes.steps
    yield Timed(name=f"{name} training", seconds=seconds, examples=sizes.batch, asked=asked)
    say(f"{name}: inference")
    rows_B = words.rows(sizes.batch)
    evaluate, asked = compile_and_count(words.evaluate, words.state, words.data, rows_B)
    seconds = median_seconds(words.reading(rows_B, evaluate), sizes.budget)
    yield Timed(name=f"{name} inference", seconds=seconds, examples=sizes.batch, asked=asked)


def time_ctc(sizes: Sizes, say: Callable[[str], None]) -> Timed:
    """CTC loss and gradient of sentences in characters."""
    size_T, size_K, size_N = CTC_SIZES
    rng = np.random.default_rng(0)
    logits_BTK = jnp.asarray(rng.standard_normal((sizes.batch, size_T, size_K), np.float32))
    labels_BN = jnp.asarray(rng.integers(1, size_K, (sizes.batch, size_N)).astype(np.int32))
    masks = (jnp.ones((sizes.batch, size_T), bool), labels_BN, jnp.ones((sizes.batch, size_N), bool))
    say("CTC")
    gradient = jax.jit(jax.value_and_grad(lambda logits_BTK, *rest: ctc_loss(logits_BTK, *rest).sum()))
    compiled, asked = compile_and_count(gradient, logits_BTK, *masks)
    seconds = median_seconds(lambda: compiled(logits_BTK, *masks), sizes.budget)
    return Timed(name=f"CTC T={size_T} K={size_K} N={size_N}", seconds=seconds, examples=sizes.batch, asked=asked)


def bench(
    experiments: Mapping[str, Experiment], sizes: Sizes, precision: str, lstm: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Everything measured: the machine's rates, sizes, and a row for each step. `say` is told what is going on.

    Training is in the precision, with that backend of LSTMs; inference is in float32, as in runs.
    """
    say("copying and multiplying")
    machine = measure_machine(precision, budget=sizes.budget / 2)
    timed = [time_ctc(sizes, say)]
    for name, experiment in experiments.items():
        timed += time_words(name, computed_in(experiment, precision, lstm), sizes, say)
    return {
        "machine": dataclasses.asdict(machine),
        "sizes": dataclasses.asdict(sizes),
        "steps": [step.row(machine) for step in timed],
    }
