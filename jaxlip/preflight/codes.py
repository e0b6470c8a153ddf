"""Whether codes have the heights that their labels say, and groups count alike."""

from collections.abc import Iterator

import numpy as np

from jaxlip.data.codes import CodeBatch, Codes
from jaxlip.mheight.exact import heights
from jaxlip.preflight.check import Check, failed, passed, some
from jaxlip.preflight.probe import Probe

SOLVED = 64
"""Examples of a split whose heights are computed again."""
WRONG = 1e-3
"""Difference of log2 h that is more than the labels' single precision."""


def check_codes(probe: Probe) -> Iterator[Check]:
    if not isinstance(probe.experiment.data, Codes):
        return
    yield _labels(probe)
    yield _groups(probe)


def _labels(probe: Probe) -> Check:
    """By NumPy's solver in float64, of the entries as the model gets them."""
    groups = probe.experiment.data.groups  # type: ignore[attr-defined]
    wrong, checked = {}, 0
    for split, part in probe.corpus.splits.items():
        batch: CodeBatch = part.take(0, np.linspace(0, len(part) - 1, min(SOLVED, len(part))).astype(np.int32))
        ks = sorted({k for k, _ in groups})
        exact = {k: heights(np.asarray(P, np.float64)) for k, P in zip(ks, batch.matrices, strict=True)}
        log2_BG = np.log2(np.stack([exact[k][:, m - 1] for k, m in groups], axis=1))
        known_BG = np.asarray(batch.weight_BG) > 0
        off_BG = np.where(np.isinf(log2_BG), known_BG, known_BG & (np.abs(log2_BG - batch.log2_BG) > WRONG))
        checked += off_BG.size
        wrong |= {
            f"k{k}m{m} ({split})": int(off_BG[:, g].sum()) for g, (k, m) in enumerate(groups) if off_BG[:, g].any()
        }
    if wrong:
        saw = f"{sum(wrong.values())} of {checked} labels are not their matrices' heights: {some(list(wrong))}"
        return failed(
            "codes.labels", saw, "matrices changed after they were labelled, or infinite heights got a number"
        )
    return passed("codes.labels", f"{checked} labels are their matrices' heights; infinite ones weigh nothing")


def _groups(probe: Probe) -> Check:
    """The weights of every group add up to the same over the splits that are scored."""
    uneven = {}
    for split in probe.corpus.splits.keys() - {"train"}:
        part = probe.corpus.splits[split]
        batch: CodeBatch = part.take(0, np.arange(len(part), dtype=np.int32))
        weight_G = np.asarray(batch.weight_BG, np.float64).sum(axis=0)
        uneven[split] = float(weight_G.max() / max(weight_G.min(), 1e-9))
    worst = max(uneven.values())
    saw = f"the heaviest group counts {worst:.3f} times as much as the lightest, in what is validated or tested"
    if worst > 1 + WRONG:
        return failed("codes.groups", saw, "a mean over all rows is a mean of the largest groups: weigh groups alike")
    return passed("codes.groups", saw)
