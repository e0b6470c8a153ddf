"""Whether the inputs are fit to learn from: finite, in scale, with masks that mask."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from jaxlip.data.batches import Split
from jaxlip.preflight.check import Check, failed, passed, some, warned
from jaxlip.preflight.probe import Probe

ROWS = 256
"""Examples that are looked at together."""
SCANNED = 4096
"""Examples of a split that are looked at, evenly spread."""
OUTLIER = 30.0
"""An example whose largest value is this many times the median example's is out of scale."""


def check_inputs(probe: Probe) -> Iterator[Check]:
    seen = {split: list(_scan(part, probe.inputs)) for split, part in probe.corpus.splits.items()}
    every = [summary for summaries in seen.values() for summary in summaries]
    yield _finite(every)
    yield _scale(every)
    yield from _masks(every)


@dataclasses.dataclass(frozen=True)
class Summary:
    """One example's inputs: largest absolute values of its float arrays, and the parts of its masks that are True."""

    name: str
    largest: dict[str, float]
    true: dict[str, float]


def _scan(split: Split, inputs: tuple[str, ...]) -> Iterator[Summary]:
    step = max(1, -(-len(split) // SCANNED))
    for bucket, names in enumerate(split.names):
        rows = np.arange(0, len(names), step)
        for start in range(0, len(rows), ROWS):
            some_rows = rows[start : start + ROWS]
            batch = split.take(bucket, some_rows)
            arrays = {name: np.asarray(getattr(batch, name)) for name in inputs}
            for b, row in enumerate(some_rows):
                floats = {n: a[b] for n, a in arrays.items() if np.issubdtype(a.dtype, np.floating)}
                masks = {n: a[b] for n, a in arrays.items() if a.dtype == bool}
                # A value that is not finite stays so in the largest.
                yield Summary(
                    names[row],
                    {n: float(np.abs(a).max(initial=0)) for n, a in floats.items()},
                    {n: float(a.mean()) for n, a in masks.items()},
                )


def _finite(seen: list[Summary]) -> Check:
    bad = [s.name for s in seen if not all(np.isfinite(value) for value in s.largest.values())]
    if bad:
        advice = "find where they come from (jaxlip inspect); one such example makes every parameter NaN"
        return failed("inputs.finite", f"{len(bad)} of {len(seen)} examples hold NaN or infinity: {some(bad)}", advice)
    return passed("inputs.finite", f"{len(seen)} examples are finite")


def _scale(seen: list[Summary]) -> Check:
    far, largest = [], 0.0
    for name in seen[0].largest:
        values_N = np.array([s.largest[name] for s in seen])
        typical = float(np.median(values_N[np.isfinite(values_N)])) if np.isfinite(values_N).any() else 0.0
        largest = max(largest, float(np.nanmax(np.where(np.isfinite(values_N), values_N, 0))) / max(typical, 1e-12))
        far += [s.name for s in seen if s.largest[name] > OUTLIER * typical and np.isfinite(s.largest[name])]
    if far:
        saw = f"{len(far)} of {len(seen)} examples reach {largest:.0f} times the usual largest value: {some(far)}"
        return warned("inputs.scale", saw, "look at them; a few such values own the normalisation and the gradient")
    return passed("inputs.scale", f"the largest value is {largest:.1f} times the usual largest value")


def _masks(seen: list[Summary]) -> Iterator[Check]:
    for name in seen[0].true:
        empty = [s.name for s in seen if s.true[name] == 0]
        saw = f"{len(empty)} of {len(seen)} examples have none set"
        if len(empty) == len(seen):
            yield failed(f"inputs.mask.{name}", saw, "a mask that masks everything leaves nothing to learn from")
        elif empty:
            yield warned(f"inputs.mask.{name}", f"{saw}: {some(empty)}", "they teach nothing; leave them out")
        else:
            part = float(np.mean([s.true[name] for s in seen]))
            yield passed(f"inputs.mask.{name}", f"{part:.0%} set, in no example none")
