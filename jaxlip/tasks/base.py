"""What the engine knows of a task: how to get data, a model, a loss and scores. It knows none by name."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array

from jaxlip.config import Component
from jaxlip.data.batches import Corpus, Split
from jaxlip.metrics.mergeable import Mergeable
from jaxlip.metrics.scores import Scores
from jaxlip.models.base import Model


@runtime_checkable
class Task(Protocol):
    """One kind of learning problem; a frozen dataclass whose fields are its hyper-parameters."""

    def corpus(self, data: Component) -> Corpus:
        """Reads the data. Raises UserError for what the user can mend."""
        ...

    def shape_spec(self, data: Component) -> Component:
        """A spec with the sizes that `build` needs, without reading any data (for parameter tables)."""
        ...

    def build(self, spec: Any) -> Model:
        """The model for data of this spec."""
        ...

    def vary(self, batch: Any, spec: Any, key: Array) -> Any:
        """A randomly varied batch; called in training only, inside jit."""
        ...

    def metrics(self, outputs: Any, batch: Any, *, train: bool) -> Mapping[str, Mergeable]:
        """Mergeable metrics; training minimises "loss" (plus "penalty", where there is one); `Train.monitor` names the
        one that selects."""
        ...

    def advice(self, val: dict[str, float]) -> str | None:
        """What is wrong with a run whose validation metrics, after warmup, are these, and what to do; None if all is
        well. The engine says it once."""
        ...

    def score(self, outputs: Any, split: Split, train: Split, spec: Any) -> Scores:
        """All scores of a split, each beside its floor, from the model's outputs on it: one pytree of NumPy arrays a
        bucket, rows in the split's order.

        `train` gives the floors: the best constant answers known before looking at the split.
        """
        ...


class GroupedLoss(NamedTuple):
    """The loss of every example (or part of one), which of the task's groups it is of, and what it weighs."""

    loss_N: Array
    group_N: Array
    weight_N: Array


@runtime_checkable
class GroupOf(Protocol):
    """A task that knows the group of an example from its target."""

    def group_of(self, batch: Any, spec: Any) -> Any:
        """The number of every example's group, on the host."""
        ...


@runtime_checkable
class Grouped(Protocol):
    """A task whose examples are of kinds (classes, lengths, difficulties) that a `Curriculum` can weigh."""

    def groups(self, spec: Any) -> tuple[str, ...]:
        """Names of the groups, in the order of their numbers."""
        ...

    def grouped_loss(self, outputs: Any, batch: Any, spec: Any) -> GroupedLoss:
        """The training loss, example by example; inside jit."""
        ...


@runtime_checkable
class Teaches(Protocol):
    """A task whose models say something of classes that another model may learn to say."""

    def soft_targets(self, outputs: Any, batch: Any) -> tuple[Any, Any]:
        """Logits [B, T, K] and which steps are real [B, T], or [B, K] and which examples are [B]."""
        ...


@runtime_checkable
class Helped(Protocol):
    """A task that only training needs whole: what is evaluated and used is its plain part."""

    @property
    def plain(self) -> Any: ...
