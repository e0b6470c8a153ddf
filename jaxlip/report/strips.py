"""The lips of an example, frame by frame: from a split's landmarks, as lines in the colours of the page's theme."""

from typing import Any

import numpy as np

from jaxlip.data.batches import FaceBatch, Split
from jaxlip.data.class_means import LIPS
from jaxlip.face.features import FaceInput
from jaxlip.face.presets import LIPS_OUTER
from jaxlip.report import html

COLUMNS = 9
"""Frames shown of an example, at even distances."""
SIZE = 100
"""Width of the lips in units of a strip."""
RINGS = (slice(0, len(LIPS_OUTER)), slice(len(LIPS_OUTER), len(LIPS)))


def lips_of(split: Split, index: int, spec: Any) -> dict[str, Any] | None:
    """Frames with the outline of the lips, in whole units around their middle; None where a split has no face."""
    bucket, row = 0, index
    while row >= len(split.names[bucket]):
        row -= len(split.names[bucket])
        bucket += 1
    batch = split.take(bucket, np.array([row]))
    face = getattr(spec, "input", None)
    if not isinstance(batch, FaceBatch) or not isinstance(face, FaceInput) or not set(LIPS) <= set(face.ids):
        return None
    points = [face.ids.index(point) for point in LIPS]
    lips_TV2 = np.asarray(batch.landmarks_BTVC[0])[:, points, :2].astype(float)
    real_T = np.flatnonzero(np.asarray(batch.frames_BT[0]))
    if not len(real_T):
        return None
    width = float(np.median(np.ptp(lips_TV2[real_T, :, 0], axis=1))) or 1.0
    shown = np.unique(np.linspace(real_T[0], real_T[-1], COLUMNS).round().astype(int))
    frames = []
    for t in shown:
        shape_V2 = (lips_TV2[t] - lips_TV2[t].mean(axis=0, keepdims=True)) * (SIZE / width)
        kind = "filled" if not batch.detected_BT[0][t] else "said" if batch.speech_BT[0][t] else ""
        points = shape_V2.round().astype(int).tolist() if batch.frames_BT[0][t] else []
        frames.append({"frame": int(t), "kind": kind, "points": points})
    return {"frames": frames}


def strip(lips: dict[str, Any], description: str) -> str:
    """The frames side by side, with their numbers."""
    pitch, height = SIZE * 1.2, SIZE * 1.1
    drawn = []
    for column, frame in enumerate(lips["frames"]):
        x, y = (column + 0.5) * pitch, height / 2
        if points := frame["points"]:
            path = "".join(
                "M" + "L".join(f"{x + px:.0f} {y + py:.0f}" for px, py in points[ring]) + "Z" for ring in RINGS
            )
            drawn.append(f'<path class="lips {frame["kind"]}" d="{path}"/>')
        drawn.append(f'<text x="{x:.0f}" y="{height + 26:.0f}" text-anchor="middle">{frame["frame"]}</text>')
    width = pitch * len(lips["frames"])
    return (
        f'<svg class="strip" viewBox="0 0 {width:.0f} {height + 36:.0f}" role="img" '
        f'aria-label="{html.text(description)}">{"".join(drawn)}</svg>'
    )
