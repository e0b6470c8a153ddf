"""Whether holistic landmarks are what the model takes them for (parts in their order, hands that do not jump), and
whether CTC gets no more steps than it needs."""

from collections.abc import Iterator

import numpy as np

from jaxlip.data.sentences import infeasible
from jaxlip.data.signs import SignData
from jaxlip.holistic.layout import HANDS, LEFT_HAND, POSE, RIGHT_HAND, Part, rows_of
from jaxlip.models.mobilenet1d import STRIDE, MobileNet1d
from jaxlip.preflight.check import Check, failed, passed, warned
from jaxlip.preflight.probe import Probe

BODY_WRISTS = {LEFT_HAND.name: 15, RIGHT_HAND.name: 16}
SHOULDERS = (11, 12)
APART = 0.5
"""Distance of a hand's wrist from the body's, in shoulder widths, above which the hand is not that arm's."""
JUMP = 2.0
"""Way of a wrist from one frame to the next, in lengths of its palm, that no hand makes."""
JUMPING = 0.02
SCARCE = 0.5


def check_signs(probe: Probe) -> Iterator[Check]:
    if not isinstance(probe.experiment.data, SignData) or not hasattr(probe.batch, "landmarks_BTVC"):
        return
    yield from _order(probe)
    yield from _hands(probe)
    yield from _steps(probe)


def _part(probe: Probe, part: Part) -> tuple[np.ndarray, np.ndarray] | None:
    """Points [B, T, V, 3] of a part and frames that have it [B, T]; None where its points are not stored."""
    rows = rows_of(part, probe.experiment.data.ids)  # type: ignore[attr-defined]
    if rows is None:
        return None
    points_BTVC = np.asarray(probe.batch.landmarks_BTVC)[:, :, list(rows)]
    return points_BTVC, np.asarray(probe.batch.frames_BT) & (points_BTVC != 0).any(axis=(2, 3))


def _order(probe: Probe) -> Iterator[Check]:
    """The hands lie at the body's wrists, each at its own: else parts or sides are exchanged."""
    body = _part(probe, POSE)
    if body is None:
        return
    pose_BTVC, there_BT = body
    width_BT = np.linalg.norm(pose_BTVC[:, :, SHOULDERS[0]] - pose_BTVC[:, :, SHOULDERS[1]], axis=-1)
    far = {}
    for part in HANDS:
        found = _part(probe, part)
        both_BT = there_BT & (width_BT > 0) & (False if found is None else found[1])
        if found is None or not both_BT.any():
            continue
        apart_BT = np.linalg.norm(found[0][:, :, 0] - pose_BTVC[:, :, BODY_WRISTS[part.name]], axis=-1)
        far[part.name] = float(np.median(apart_BT[both_BT] / width_BT[both_BT]))
    if far:
        saw = ", ".join(f"{name} {distance:.2f}" for name, distance in far.items())
        saw = f"shoulder widths from the wrist of each hand to that of the body: {saw}"
        if max(far.values()) > APART:
            advice = (
                "the file has its parts in another order than pose, face, left hand, right hand, or sides exchanged"
            )
            yield failed("signs.order", saw, advice)
        else:
            yield passed("signs.order", saw)


def _hands(probe: Probe) -> Iterator[Check]:
    """Hands are there, and move as hands do: one that is put at a fixed place where it is missing jumps."""
    jumps, steps, seen = 0, 0, []
    for part in HANDS:
        found = _part(probe, part)
        if found is None or not found[1].any():
            continue
        points_BTVC, there_BT = found
        seen.append(there_BT)
        palm = np.median(np.linalg.norm(points_BTVC[:, :, 9] - points_BTVC[:, :, 0], axis=-1)[there_BT])
        both_BT = there_BT[:, 1:] & there_BT[:, :-1]
        way_BT = np.linalg.norm(np.diff(points_BTVC[:, :, 0], axis=1), axis=-1) / max(float(palm), 1e-9)
        jumps, steps = jumps + int((way_BT[both_BT] > JUMP).sum()), steps + int(both_BT.sum())
    share = float(np.any(seen, axis=0).sum() / np.asarray(probe.batch.frames_BT).sum()) if seen else 0.0
    saw = f"{share:.0%} of the frames have a hand"
    advice = "look at the videos, or at how missing hands are written (NaN or 0)"
    yield passed("signs.hands", saw) if share >= SCARCE else warned("signs.hands", saw, advice)
    saw = f"{jumps} of {steps} steps of a wrist are longer than {JUMP:g} palms"
    if jumps > JUMPING * max(steps, 1):
        advice = "a hand that is missing must be NaN or 0 in all its points: any other value is read as a leap"
        yield failed("signs.jumps", saw, advice)
    else:
        yield passed("signs.jumps", saw)


def _steps(probe: Probe) -> Iterator[Check]:
    """CTC pays for every step: steps that are only brought back to the frames' rate are blanks more, unless targets
    need the room."""
    task = probe.experiment.task
    model = getattr(getattr(task, "task", task), "model", None)
    if not isinstance(model, MobileNet1d):
        return
    train = probe.corpus.splits["train"]
    tight = len(infeasible(train, STRIDE))
    saw = f"{tight} of {len(train)} targets do not fit a step every {STRIDE} frames"
    if model.upsample and not tight:
        advice = f"the steps between add nothing but blanks; try --task.model.no-upsample ({STRIDE} times fewer)"
        yield warned("signs.steps", saw, advice)
    else:
        yield passed("signs.steps", saw)
