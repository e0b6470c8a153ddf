"""Whether the model uses what it is given, and nothing else: inputs, edges, time; no padding, no batch-mates."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxlip.preflight.check import Check, failed, passed, some, warned
from jaxlip.preflight.probe import Probe, moved

NOTHING = 1e-6
"""A change of the outputs, in units of their size, that is rounding."""
LEAK = 1e-4
"""A change through padding or batch-mates that is more than another order of summation."""
FLAT = 1e-3
"""Part of the outputs' spread that lies between frames below which time has collapsed."""
NUDGE = 0.01
"""Size of a small change, in units of an input's spread."""
LOCAL = 1.2
"""How much more frames must move their own outputs than those at the other end of the clip."""


def check_use(probe: Probe) -> Iterator[Check]:
    yield from _inputs(probe)
    yield from _edges(probe)
    yield from _time(probe)
    yield from _padding(probe)
    yield from _loss_of_padding(probe)
    yield _mates(probe)
    yield _inference(probe)
    yield from _loops(probe)
    yield from _gradients(probe)


def _inputs(probe: Probe) -> Iterator[Check]:
    before = probe.answer(probe.batch)
    for name in probe.inputs:
        array = np.asarray(getattr(probe.batch, name))
        changed = dataclasses.replace(probe.batch, **{name: _other(array, np.random.default_rng(0))})
        change = moved(before, probe.answer(changed))
        if change < NOTHING:
            advice = "the model ignores what it is given: a mask, id or feature that is not wired in"
            yield failed(f"use.{name}", "changing it changes no output", advice)
        else:
            yield passed(f"use.{name}", f"changing it moves the outputs by {change:.2g} of their size")


def _other(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The array with other values: floats moved by their own spread, integers exchanged, masks cut down by a third."""
    if array.dtype == bool:
        kept = array.copy()
        kept[:, : max(1, array.shape[1] // 3)] ^= True
        # A mask that is set nowhere else would mask everything.
        return np.where(kept.any(axis=1, keepdims=True), kept, array)
    if np.issubdtype(array.dtype, np.integer):
        return np.roll(array, 1, axis=0)
    return (array + array.std() * rng.normal(size=array.shape)).astype(array.dtype)


def _edges(probe: Probe) -> Iterator[Check]:
    spec: Any = probe.corpus.spec
    if not hasattr(spec, "topology") or not any("graph" in name.split(".") for name in probe.start[0]):
        return
    chain = tuple((v, v + 1) for v in range(len(spec.topology.ids) - 1))
    other = dataclasses.replace(spec, topology=dataclasses.replace(spec.topology, edges=chain))
    model = probe.task.build(other)
    outputs, _ = jax.jit(lambda params, state, batch: model.apply(params, state, batch, None))(
        *probe.start, probe.batch
    )
    after = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(outputs)]
    change = moved(probe.answer(probe.batch), after)
    edges = len(spec.topology.edges)
    if change < NOTHING:
        yield failed("use.edges", f"putting the {edges} edges elsewhere changes no output", "the graph is not used")
    else:
        yield passed(
            "use.edges", f"putting the {edges} edges elsewhere moves the outputs by {change:.2g} of their size"
        )


def _gradients(probe: Probe) -> Iterator[Check]:
    loss, grads, by_input = probe.learned
    bad = [name for name, grad in grads.items() if not np.isfinite(grad).all()]
    if not np.isfinite(loss) or bad:
        saw = f"the first loss is {loss:.4g}, {len(bad)} arrays have gradients that are not finite: {some(bad)}"
        yield failed("use.gradients.finite", saw, "inputs out of scale, or a division or root at zero")
        return
    dtypes = {"gradients are": {str(grad.dtype) for grad in grads.values() if grad.dtype.itemsize < 4}}
    dtypes["the loss is"] = {probe.loss_dtype} if np.dtype(probe.loss_dtype).itemsize < 4 else set()
    if narrow := [f"{what} {', '.join(sorted(found))}" for what, found in dtypes.items() if found]:
        saw = " and ".join(narrow)
        yield failed(
            "use.gradients.finite", saw, "parameters and losses belong in float32, whatever the layers compute in"
        )
        return
    yield passed("use.gradients.finite", f"the first loss is {loss:.4g}, all gradients are finite, in float32")
    if deaf := [name for name, grad in by_input.items() if not np.any(grad)]:
        saw = f"the loss has no gradient in {some(deaf)}"
        yield failed("use.gradients.inputs", saw, "something cuts the input off before the loss")
    else:
        yield passed("use.gradients.inputs", f"the loss has a gradient in {some(list(by_input))}")
    idle = [name for name, grad in grads.items() if not np.any(grad)]
    if idle:
        saw = f"{len(idle)} of {len(grads)} parameter arrays receive none: {some(idle)}"
        yield warned("use.gradients", saw, "they never learn: a part that is not connected, or a loss of weight 0")
    else:
        yield passed("use.gradients", f"all {len(grads)} parameter arrays receive some")


def _loops(probe: Probe) -> Iterator[Check]:
    """A loop in Python over frames is a program as long as the clip: it compiles slowly and runs slowly."""
    if not hasattr(probe.batch, "frames_BT"):
        return
    frames = np.asarray(probe.batch.frames_BT).shape[1]
    short = jax.tree.map(lambda leaf: leaf[:, : frames // 2] if _framed(leaf, frames) else leaf, probe.batch)
    whole, half = probe.equations(probe.batch), probe.equations(short)
    saw = f"the model is a program of {whole} operations for {frames} frames, of {half} for {frames // 2}"
    if whole - half > frames // 2:
        yield warned("use.loops", saw, "it loops over frames in Python: use jax.lax.scan, or arrays with a frame axis")
    else:
        yield passed("use.loops", saw)


def _framed(leaf: Any, frames: int) -> bool:
    return np.ndim(leaf) > 1 and np.shape(leaf)[1] == frames


def _time(probe: Probe) -> Iterator[Check]:
    if not hasattr(probe.batch, "frames_BT"):
        return
    frames_BT = np.asarray(probe.batch.frames_BT)
    by_frame = [leaf for leaf in probe.answer(probe.batch) if leaf.ndim > 2 and leaf.shape[1] == frames_BT.shape[1]]
    if not by_frame:
        yield _order(probe, frames_BT)
        return
    first = by_frame[0]
    mean_B1K = np.stack([leaf[real].mean(axis=0) for leaf, real in zip(first, frames_BT, strict=True)])[:, None]
    in_time = float(np.sqrt(((first - mean_B1K)[frames_BT] ** 2).mean()) / max(first[frames_BT].std(), 1e-12))
    local = _locality(probe, frames_BT, first)
    saw = f"{in_time:.2g} of the outputs' spread lies between frames of a clip; frames move their own outputs "
    saw += f"{local:.1f} times as much as those far away"
    if in_time < FLAT or local < LOCAL:
        yield failed("use.time", saw, "time has collapsed: something pools over all frames before the frame-wise head")
    else:
        yield passed("use.time", saw)


def _locality(probe: Probe, frames_BT: np.ndarray, before_BTK: np.ndarray) -> float:
    """How much more the first and last quarter of the outputs are moved by their own frames than by each other's."""
    rank_BT = np.cumsum(frames_BT, axis=1) / np.maximum(frames_BT.sum(axis=1, keepdims=True), 1)
    first_BT, last_BT = frames_BT & (rank_BT <= 0.25), frames_BT & (rank_BT > 0.75)
    by_first_BT, by_last_BT = (_changes(probe, place_BT, before_BTK) for place_BT in (first_BT, last_BT))
    own = by_first_BT[first_BT].mean() * by_last_BT[last_BT].mean()
    others = by_first_BT[last_BT].mean() * by_last_BT[first_BT].mean()
    return float(np.sqrt(own / max(others, 1e-24)))


def _changes(probe: Probe, place_BT: np.ndarray, before_BTK: np.ndarray) -> np.ndarray:
    """How the outputs [B, T] change where the first float input changes in these frames."""
    name = next(n for n in probe.inputs if np.issubdtype(np.asarray(getattr(probe.batch, n)).dtype, np.floating))
    array = np.asarray(getattr(probe.batch, name)).copy()
    # A little: large changes saturate a model, and what is saturated no longer tells near from far.
    noise = NUDGE * array.std() * np.random.default_rng(1).normal(size=array.shape)
    array[place_BT] += noise[place_BT].astype(array.dtype)
    after = probe.answer(dataclasses.replace(probe.batch, **{name: array}))
    after_BTK = next(leaf for leaf in after if leaf.shape == before_BTK.shape)
    return np.abs(after_BTK - before_BTK).mean(axis=-1)


def _order(probe: Probe, frames_BT: np.ndarray) -> Check:
    order_BT = np.broadcast_to(np.arange(frames_BT.shape[1]), frames_BT.shape).copy()
    for order_T, real in zip(order_BT, frames_BT, strict=True):
        order_T[real] = order_T[real][::-1]
    rows_B1 = np.arange(len(frames_BT))[:, None]
    turned = {name: np.asarray(getattr(probe.batch, name))[rows_B1, order_BT] for name in probe.inputs}
    change = moved(probe.answer(probe.batch), probe.answer(dataclasses.replace(probe.batch, **turned)))
    if change < LEAK:
        return warned("use.time", "clips played backwards give the same outputs", "the model does not see motion")
    return passed("use.time", f"clips played backwards move the outputs by {change:.2g} of their size")


def _padding(probe: Probe) -> Iterator[Check]:
    for mask in sorted(set(probe.padded.values())):
        real = np.asarray(getattr(probe.batch, mask)).copy()
        # Whether or not the sample is padded, the last third of it is now.
        real[:, -max(1, real.shape[1] // 3) :] = False
        cut = dataclasses.replace(probe.batch, **{mask: real})
        garbage = {}
        for name in (name for name, by in probe.padded.items() if by == mask):
            array = np.asarray(getattr(probe.batch, name)).copy()
            array[~real] = ~array[~real] if array.dtype == bool else 1e3
            garbage[name] = array
        before, after = (
            [_real(leaf, real) for leaf in probe.answer(b)] for b in (cut, dataclasses.replace(cut, **garbage))
        )
        change, loss = moved(before, after), abs(probe.loss(cut) - probe.loss(dataclasses.replace(cut, **garbage)))
        saw = f"other values in padding move the outputs by {change:.1g} of their size, the loss by {loss:.1g}"
        if max(change, loss) > LEAK:
            yield failed(f"use.padding.{mask}", saw, "a clip's answer depends on how long its batch-mates are: mask it")
        else:
            yield passed(f"use.padding.{mask}", saw)


def _loss_of_padding(probe: Probe) -> Iterator[Check]:
    """What is minimised, of the same outputs with a third of padding and without it."""
    if not hasattr(probe.batch, "frames_BT"):
        return
    frames_BT = np.asarray(probe.batch.frames_BT).copy()
    kept = frames_BT.shape[1] - max(1, frames_BT.shape[1] // 3)
    frames_BT[:, kept:] = False
    padded = dataclasses.replace(probe.batch, frames_BT=frames_BT)
    outputs = probe.outputs(padded)
    if not any(_framed(leaf, frames_BT.shape[1]) for leaf in jax.tree.leaves(outputs)):
        return
    short = jax.tree.map(lambda leaf: leaf[:, :kept] if _framed(leaf, frames_BT.shape[1]) else leaf, (outputs, padded))
    whole, cut = (probe.training_loss(*asked) for asked in ((outputs, padded), short))
    saw = f"the loss is {whole:.5g} with a third of padding, {cut:.5g} of the same outputs without it"
    if abs(whole - cut) > LEAK * max(abs(whole), 1):
        advice = "it counts padding, or divides by the padded length: take the mean over real frames"
        yield failed("use.padding.loss", saw, advice)
    else:
        yield passed("use.padding.loss", saw)


def _real(leaf: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Outputs at real places, if they have the mask's axes."""
    framed = leaf.ndim >= real.ndim and leaf.shape[: real.ndim] == real.shape
    return np.where(real.reshape(*real.shape, *[1] * (leaf.ndim - real.ndim)), leaf, 0) if framed else leaf


def _mates(probe: Probe) -> Check:
    mates = jax.tree.map(lambda array: np.concatenate([array[:1], np.roll(array[1:], 3, axis=0)]), probe.batch)
    other = dataclasses.replace(mates, examples_B=np.arange(len(probe.batch.examples_B)) == 0)
    change = moved(probe.answer(probe.batch), probe.answer(other), slice(0, 1))
    saw = f"other batch-mates move a clip's outputs by {change:.1g} of their size in inference"
    if change > LEAK:
        return failed("use.batch_mates", saw, "statistics over the batch are used where running ones should be")
    return passed("use.batch_mates", saw)


def _inference(probe: Probe) -> Check:
    before, after = probe.start[1], probe.state_after(probe.batch)
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    again = moved(probe.answer(probe.batch), probe.answer(probe.batch))
    if changed or again > 0:
        saw = f"inference changes {len(changed)} buffers ({some(changed)}), asked twice it differs by {again:.1g}"
        return failed("use.inference", saw, "dropout or running statistics are not switched off in inference")
    return passed("use.inference", "inference changes no buffer and says the same when asked twice")
