"""Any task with a teacher beside the labels (Hinton, Vinyals and Dean, 2015): its soft targets come from disk."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxlip.config import Component, members_of, require
from jaxlip.data.batches import Corpus, Split
from jaxlip.data.soft_targets import Taught, read_manifest, teach
from jaxlip.errors import UserError
from jaxlip.losses.distillation import divergence
from jaxlip.metrics.mergeable import Mean
from jaxlip.metrics.scores import Scores
from jaxlip.models.base import Model


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TaughtCorpus(Corpus):
    """A corpus with a teacher in its training split, and the fingerprint of the data alone: a student that is evaluated
    needs no teacher."""

    plain: Corpus

    @functools.cached_property
    def fingerprint(self) -> str:
        return self.plain.fingerprint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distilled(Component):
    """The student's task, and what it learns from a teacher."""

    task: Any
    """The task of the student: one with `soft_targets`."""
    soft_targets: str
    """Folder that `jaxlip teach` wrote: what a run, or several together, say of the training split."""
    temperature: float = 3.0
    """Both distributions are softened by it."""
    alpha: float = 0.7
    """Weight of the teacher; that of the labels is 1 - alpha."""

    def __post_init__(self):
        require(self.temperature > 0, self, "temperature", "positive")
        require(members_of(self.task) == 1, self, "task", "one network (task.members 1)")
        require(0 <= self.alpha <= 1, self, "alpha", "in [0, 1]")

    @property
    def plain(self) -> Any:
        """What is left of the task once training is over."""
        return self.task

    def corpus(self, data: Component) -> Corpus:
        folder = pathlib.Path(self.soft_targets)
        manifest = read_manifest(folder)
        plain = self.task.corpus(data)
        if manifest["fingerprint"] != plain.fingerprint:
            raise UserError(
                f"{folder} was made of other data (fingerprint {manifest['fingerprint']}, here {plain.fingerprint}); "
                "run `jaxlip teach` again with a teacher that was trained on these."
            )
        splits = {**plain.splits, "train": teach(plain.splits["train"], folder)}
        notes = (*plain.notes, f"taught by {', '.join(manifest['teachers'])}")
        return TaughtCorpus(splits=splits, spec=plain.spec, counts=plain.counts, notes=notes, plain=plain)

    def shape_spec(self, data: Component) -> Component:
        return self.task.shape_spec(data)

    def build(self, spec: Any) -> Model:
        return self.task.build(spec)

    def vary(self, batch: Any, spec: Any, key: Array) -> Any:
        return self.task.vary(batch, spec, key)

    def metrics(self, outputs: Any, batch: Any, *, train: bool) -> dict[str, Mean]:
        """The student's own, with "labels" its loss, "teacher" the divergence, and "loss" both by their weights."""
        taught = batch.target
        if not isinstance(taught, Taught):
            return self.task.metrics(outputs, batch, train=train)
        batch = dataclasses.replace(batch, target=taught.target)
        means = self.task.metrics(outputs, batch, train=train)
        if not train:
            return means
        logits, real = self.task.soft_targets(outputs, batch)
        if logits.shape != taught.log_p.shape:
            raise UserError(
                f"the teacher answers {taught.log_p.shape[1:]} (steps, classes) where the student answers "
                f"{logits.shape[1:]}: both must read the same tokens, as often."
            )
        # The mean over all real frames of the batch: of a clip, and then over clips, would count short ones more.
        each_B = divergence(taught.log_p, logits, real, temperature=self.temperature)
        count_B = jnp.sum(real.reshape(len(real), -1), axis=1).astype(jnp.float32)
        teacher = Mean(jnp.sum(each_B * count_B), jnp.sum(count_B))
        labels = means["loss"]
        loss = (1 - self.alpha) * labels.value + self.alpha * teacher.value
        return {**means, "loss": Mean(loss * labels.weight, labels.weight), "labels": labels, "teacher": teacher}

    def advice(self, val: dict[str, float]) -> str | None:
        return self.task.advice(val)

    def score(self, outputs: Any, split: Split, train: Split, spec: Any) -> Scores:
        return self.task.score(outputs, split, train, spec)
