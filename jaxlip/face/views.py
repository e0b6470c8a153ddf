"""Other views of a clip that a trained model can be asked about (test-time augmentation): mirrored, or at a speed."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxlip.errors import UserError
from jaxlip.face.augment import mirrored, nearest, resample

MIRROR = "mirror"
MASKS = ("frames_BT", "detected_BT", "speech_BT")


def check_view(view: str) -> None:
    """Raises UserError for what is no view: "mirror", or a positive number."""
    try:
        good = view == MIRROR or 0.2 <= float(view) <= 5
    except ValueError:
        good = False
    if not good:
        raise UserError(f"a view is {MIRROR!r} or a speed from 0.2 to 5, such as 0.9, not {view!r}.")


def seen_as(batch: Any, view: str, *, ids: tuple[int, ...], preset: str) -> Any:
    """A FaceBatch seen otherwise; what is to be learned of it stays, since nobody learns from views.

    "mirror" exchanges left and right; a number is a speed, about the middle of the bucket: above 1 frames pass faster,
    below 1 slower, so that the ends of a clip that fills its bucket are lost. Raises UserError where the preset's
    points are not closed under mirroring.
    """
    if view == MIRROR:
        return dataclasses.replace(batch, landmarks_BTVC=mirrored(batch.landmarks_BTVC, ids, preset))
    frames = batch.landmarks_BTVC.shape[1]
    time_T = frames // 2 + float(view) * (np.arange(frames) - frames // 2)
    time_BT = jnp.broadcast_to(jnp.asarray(time_T, jnp.float32), batch.frames_BT.shape)
    return dataclasses.replace(
        batch,
        landmarks_BTVC=resample(batch.landmarks_BTVC, batch.frames_BT, time_BT),
        **{name: nearest(getattr(batch, name), time_BT) for name in MASKS},
    )
