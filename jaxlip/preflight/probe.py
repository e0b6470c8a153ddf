"""The freshly built model and a handful of real training examples, ready to be asked what they do with each other."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.config import Experiment
from jaxlip.data.batches import Corpus
from jaxlip.models.base import Flat, Model

EXAMPLES = 8
"""Examples that a model is asked about."""
STIR = 0.02
"""Spread of the noise on initial parameters, so that a layer that starts at zero does not look like one that is cut
off."""


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """A model at its initial parameters, and a sample of the training split (on the host)."""

    experiment: Experiment
    corpus: Corpus

    @property
    def task(self) -> Any:
        return self.experiment.task

    @functools.cached_property
    def model(self) -> Model:
        return self.task.build(self.corpus.spec)

    @functools.cached_property
    def start(self) -> tuple[Flat, Flat]:
        """Parameters, stirred a little, and model state before the first step."""

        params, state = jax.device_get(jax.jit(self.model.init)(jax.random.key(self.experiment.train.seed)))
        rng = np.random.default_rng(0)
        stirred = {n: (p + STIR * rng.normal(size=p.shape)).astype(p.dtype) for n, p in params.items()}
        return jax.device_put((stirred, state))

    @functools.cached_property
    def batch(self) -> Any:
        """EXAMPLES of the bucket with the most examples, evenly spread; fewer are repeated, so that there are mates."""
        split = self.corpus.splits["train"]
        bucket = max(range(len(split.names)), key=lambda b: len(split.names[b]))
        return split.take(bucket, np.linspace(0, len(split.names[bucket]) - 1, EXAMPLES).astype(int))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Fields of the batch that a model is meant to use: those that its class declares, else all but target; and
        the word's frames only where the config has them told."""
        every = tuple(f.name for f in dataclasses.fields(self.batch) if f.name not in ("target", "examples_B"))
        untold = () if getattr(self.experiment.data, "mask_channel", True) else ("speech_BT",)
        return tuple(name for name in getattr(type(self.batch), "INPUTS", every) if name not in untold)

    @property
    def padded(self) -> dict[str, str]:
        """Array -> mask of the axes on which it is padded."""
        return getattr(type(self.batch), "PADDED", {})

    @functools.cached_property
    def _infer(self):
        def infer(params: Flat, state: Flat, batch: Any):
            outputs, after = self.model.apply(params, state, batch, None)
            return outputs, after, self.task.metrics(outputs, batch, train=False)["loss"]

        return jax.jit(infer)

    def answer(self, batch: Any) -> list[np.ndarray]:
        """Leaves of the model's outputs, in inference."""
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(self.outputs(batch))]

    def outputs(self, batch: Any) -> Any:
        """What the model says, in inference."""
        return self._infer(*self.start, batch)[0]

    def loss(self, batch: Any) -> float:
        return float(self._infer(*self.start, batch)[2].value)

    def training_loss(self, outputs: Any, batch: Any) -> float:
        """What training minimises, of these outputs."""
        return float(jax.jit(lambda *asked: self.task.metrics(*asked, train=True)["loss"].value)(outputs, batch))

    @property
    def loss_dtype(self) -> str:
        return str(self.learn.out_info[0].dtype)

    def equations(self, batch: Any) -> int:
        """Operations of the model's program, those inside of loops counted once."""
        traced = jax.make_jaxpr(lambda batch: self.model.apply(*self.start, batch, None)[0])(batch)
        return _equations(traced.jaxpr)

    def state_after(self, batch: Any) -> Flat:
        """Model state after inference, which must not change it."""
        return self._infer(*self.start, batch)[1]

    @functools.cached_property
    def learn(self):
        """(params, state, batch, key) -> (loss, gradients of the parameters, gradients of float inputs), in training;
        compiled."""
        floats = [
            name for name in self.inputs if np.issubdtype(np.asarray(getattr(self.batch, name)).dtype, np.floating)
        ]

        def objective(params: Flat, values: dict, state: Flat, batch: Any, key: Any):
            outputs, _ = self.model.apply(params, state, dataclasses.replace(batch, **values), key)
            means = self.task.metrics(outputs, batch, train=True)
            return sum(means[name].value for name in ("loss", "penalty") if name in means)

        def learn(params: Flat, state: Flat, batch: Any, key: Any):
            values = {name: jnp.asarray(getattr(batch, name)) for name in floats}
            loss, (grads, by_input) = jax.value_and_grad(objective, argnums=(0, 1))(params, values, state, batch, key)
            return loss, grads, by_input

        return jax.jit(learn).lower(*self.start, self.batch, jax.random.key(0)).compile()

    @functools.cached_property
    def learned(self) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Training loss at the start and its gradients, by the name of a parameter and of an input."""
        loss, grads, by_input = jax.device_get(self.learn(*self.start, self.batch, jax.random.key(0)))
        return float(loss), grads, by_input


def _equations(jaxpr: Any) -> int:
    inner = [value for eqn in jaxpr.eqns for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_program)]
    return len(jaxpr.eqns) + sum(_equations(getattr(p, "jaxpr", p)) for p in inner if _is_program(p))


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def moved(before: list[np.ndarray], after: list[np.ndarray], rows: slice = slice(None)) -> float:
    """The largest change of an output in these examples, in units of the outputs' own size."""
    size = max(max(float(np.abs(leaf).max(initial=0)) for leaf in before), 1e-12)
    return max(float(np.abs(a - b)[rows].max(initial=0)) for a, b in zip(before, after, strict=True)) / size
