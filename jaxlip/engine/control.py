"""What a validation metric decides: when to lower the learning rate, when to stop. And what signals decide."""

import dataclasses
import signal
from types import FrameType

from jaxlip.config import Component, Optim, Train
from jaxlip.engine import hosts
from jaxlip.errors import Interrupted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Control(Component):
    """Early stopping and reduce-on-plateau, both on one validation metric (negated where higher is better). Saved with
    checkpoints."""

    best: float | None = None
    """Lowest value so far, counting falls of at least min_delta."""
    waited: int = 0
    """Evaluations since `best`."""
    plateau_waited: int = 0
    """Evaluations since `best` or the last reduction."""
    lr_scale: float = 1.0
    """Product of all reductions."""

    def after(self, value: float, optim: Optim, train: Train) -> "Control":
        """The control after one more evaluation."""
        if self.best is None or value < self.best - train.min_delta:
            return dataclasses.replace(self, best=value, waited=0, plateau_waited=0)
        waited = dataclasses.replace(self, waited=self.waited + 1, plateau_waited=self.plateau_waited + 1)
        if waited.plateau_waited < optim.plateau_patience:
            return waited
        return dataclasses.replace(waited, plateau_waited=0, lr_scale=self.lr_scale * optim.plateau_factor)

    def exhausted(self, train: Train) -> bool:
        return self.waited >= train.patience


class Signals:
    """Notes SIGINT and SIGTERM instead of dying, so that the loop can save first; a second one is obeyed at once."""

    def __init__(self):
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def agreed(self) -> bool:
        """Whether this or another host has received one; to be asked at the same points of the program on all."""
        if number := hosts.largest(int(self.received or 0)):
            self.received = signal.Signals(number)
        return self.received is not None

    def interrupted(self, where: str) -> Interrupted:
        """How a run ends that a signal has stopped and that is saved."""
        assert self.received is not None
        return Interrupted(
            int(self.received), f"stopped by {self.received.name} {where}, saved; continue with --resume."
        )

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}
