"""What a run will cost, and whether its size fits its data."""

import math
import time
from collections.abc import Iterator

import jax
import numpy as np

from jaxlip.data.batches import steps_per_epoch
from jaxlip.preflight.check import Check, passed, warned
from jaxlip.preflight.probe import EXAMPLES, Probe

PER_EXAMPLE = 20_000
"""Parameters for each training example above which a model can learn every example by heart many times over."""
REPEATS = 3


def check_capacity(probe: Probe) -> Iterator[Check]:
    params = sum(math.prod(array.shape) for array in probe.start[0].values())
    examples = len(probe.corpus.splits["train"])
    saw = f"{params:,} parameters for {examples:,} training examples, {params / examples:,.0f} each"
    if params > PER_EXAMPLE * examples:
        yield warned("capacity.parameters", saw, "it will overfit: a smaller model, dropout, task.augment, more data")
    else:
        yield passed("capacity.parameters", saw)
    yield _time(probe)
    yield _memory(probe, params)


def _time(probe: Probe) -> Check:
    """From one step on the sample, in training: the rest of an epoch is the same again."""
    train, key = probe.experiment.train, jax.random.key(0)
    jax.block_until_ready(probe.learn(*probe.start, probe.batch, key))
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(probe.learn(*probe.start, probe.batch, key))
        seconds.append(time.perf_counter() - began)
    steps = steps_per_epoch(probe.corpus.splits["train"], train.batch)
    epoch = min(seconds) * steps * train.batch / EXAMPLES
    warmup = probe.experiment.optim.warmup_epochs
    saw = f"{steps} steps an epoch, {train.epochs} epochs, about {_clock(epoch * train.epochs)} here"
    if warmup > train.epochs:
        return warned("capacity.steps", saw, f"the warmup of {warmup:g} epochs never ends: --optim.warmup_epochs")
    return passed("capacity.steps", saw)


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _memory(probe: Probe, params: int) -> Check:
    """Parameters, gradients, two moments (and the average); resident data; what a step keeps, as compiled."""
    data = sum(
        math.prod(shape) * np.dtype(dtype).itemsize
        for part in probe.corpus.splits.values()
        for bucket in range(len(part.names))
        for shape, dtype, _ in part.arrays(bucket)
    )
    analysis = probe.learn.memory_analysis()
    scratch = getattr(analysis, "temp_size_in_bytes", 0) * probe.experiment.train.batch / EXAMPLES
    copies = 5 if probe.experiment.optim.average else 4
    need = (4 * copies * params + data + scratch) / 2**30
    return passed("capacity.memory", f"about {need:.2f} GiB on the device, {data / 2**30:.2f} of it data")
