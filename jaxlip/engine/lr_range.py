"""The learning-rate range test (Smith, WACV 2017): a short training whose rate grows from step to step."""

import dataclasses
import itertools
import math
import pathlib
import tempfile
from collections.abc import Iterator

import jax
import numpy as np

from jaxlip.config import Experiment
from jaxlip.data.batches import Corpus, Dispatch
from jaxlip.engine.checkpoint import Position
from jaxlip.engine.loop import Trainer
from jaxlip.engine.mesh import replicate
from jaxlip.engine.run import RunFolder

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 120
DIVERGED = 3.0
"""The test ends where the loss is so many times what it was at its lowest."""
SETTLED = 10
"""Steps after which the running mean means something."""
SMOOTHING = 0.9
"""Weight of what came before in the running mean of the losses."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LrRange:
    """The rate of every step, and the training loss of its batch, before it and as a running mean."""

    rates_S: np.ndarray
    losses_S: np.ndarray

    @property
    def smooth_S(self) -> np.ndarray:
        smooth, mean = [], 0.0
        for step, loss in enumerate(self.losses_S, start=1):
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            smooth.append(mean / (1 - SMOOTHING**step))
        return np.array(smooth)

    @property
    def steepest(self) -> float:
        """The rate at which the loss falls fastest, on the way to where it is lowest."""
        lowest = int(self.smooth_S.argmin())
        # The first means are of a few batches, and say more about those than about the rate.
        first = min(SETTLED, lowest)
        falling_S = np.gradient(self.smooth_S, np.log(self.rates_S))[first : lowest + 1]
        return float(self.rates_S[first + int(falling_S.argmin())])

    @property
    def lowest(self) -> float:
        """The rate at which the loss is lowest; beyond it training begins to undo itself."""
        return float(self.rates_S[int(self.smooth_S.argmin())])


def lr_range(experiment: Experiment, corpus: Corpus, *, steps: int = STEPS) -> LrRange:
    """Trains for so many steps, each at a higher rate, in the experiment's own way but for its schedule. Nothing is
    kept."""
    one_by_one = dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, steps_per_dispatch=1))
    rates_S = np.geomspace(LOWEST, HIGHEST, steps)
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(one_by_one, RunFolder(pathlib.Path(folder) / "lr_range"), corpus)
        growth = math.log(HIGHEST / LOWEST) / (steps - 1)
        program = dataclasses.replace(
            trainer.program, schedule=lambda step: LOWEST * jax.numpy.exp(growth * step.astype(jax.numpy.float32))
        )
        dispatch = jax.jit(program.dispatch, donate_argnums=0)
        plan = list(itertools.islice(_endless(trainer), steps))
        feed = trainer.train_split.feed(lambda tree: replicate(tree, trainer.mesh))
        state, one = trainer.state, replicate(np.int32(1), trainer.mesh)
        with jax.set_mesh(trainer.mesh):
            for data, rows_KB in feed.batches([(part.bucket, part.rows_KB) for part in plan]):
                state, sums = dispatch(state, data, rows_KB, one, trainer.key)
                losses.append(jax.device_get(sums)["loss"].result())
                so_far = LrRange(rates_S=rates_S[: len(losses)], losses_S=np.array(losses))
                if not math.isfinite(losses[-1]) or so_far.smooth_S[-1] > DIVERGED * so_far.smooth_S.min():
                    break
    if not math.isfinite(losses[-1]):
        losses.pop()
    return LrRange(rates_S=rates_S[: len(losses)], losses_S=np.array(losses))


def _endless(trainer: Trainer) -> Iterator[Dispatch]:
    for epoch in itertools.count():
        trainer.position = Position(epoch=epoch)
        yield from trainer.plan()
