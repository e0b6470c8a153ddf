"""A model begun from another of other widths: what fits is taken, what is wider is widened so that outputs stay equal.

A unit that is added gets fresh incoming weights, and its outgoing weights to older units are 0 (as in Net2Net;
Chen et al., ICLR 2016): what the old units compute does not change, and the new ones can learn. That holds for linear
maps, graph and other convolutions, LSTMs and batch norms; a layer norm over widened units takes its mean over more of
them, and so changes what it gives.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxlip.models.base import Flat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growth:
    """Names of the arrays by where they come from; those of the source that have no place are `unused`."""

    loaded: tuple[str, ...]
    widened: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """What is to be said, an item a line."""
        parts = [("as they are", self.loaded), ("widened", self.widened), ("new", self.new), ("not used", self.unused)]
        return [
            f"{len(names)} arrays {what}" + (f": {', '.join(names)}" if names and what != "as they are" else "")
            for what, names in parts
        ]


def grown(fresh: Flat, given: Flat) -> tuple[Flat, Growth]:
    """`fresh` parameters (or state) of the new model with all that `given` can fill in, and what was done."""
    common = [name for name in fresh if name in given and fresh[name].ndim == given[name].ndim]
    pairs = [(old, new) for name in common for old, new in zip(given[name].shape, fresh[name].shape, strict=True)]
    wider = [(old, new) for old, new in pairs if new > old]
    # Axes hold one or more blocks of units side by side (gates, directions, pools), all widened by the same step.
    unit = (math.gcd(*(old for old, _ in wider)), math.gcd(*(new for _, new in wider))) if wider else (1, 1)
    result, names = dict(fresh), {"loaded": [], "widened": [], "new": []}
    for name, array in fresh.items():
        old = given.get(name)
        if old is not None and old.shape == array.shape:
            result[name], kind = old, "loaded"
        else:
            widened = widen(given[name], array, unit) if name in common else None
            result[name], kind = (array, "new") if widened is None else (widened, "widened")
        names[kind].append(name)
    unused = tuple(name for name in given if name not in fresh)
    return result, Growth(**{kind: tuple(found) for kind, found in names.items()}, unused=unused)


def widen(old: Array, fresh: Array, unit: tuple[int, int]) -> Array | None:
    """The old array inside the fresh one, every block of units at the beginning of its wider block; None if it does not
    fit. Inputs are the last axis but one, outputs the last."""
    found = [_places(small, wide, unit) for small, wide in zip(old.shape, fresh.shape, strict=True)]
    places = [place for place in found if place is not None]
    if len(places) < len(found):
        return None
    result = np.array(fresh)
    if result.ndim > 1:
        was_in, was_out = (np.isin(np.arange(result.shape[axis]), places[axis]) for axis in (-2, -1))
        result[..., ~was_in[:, None] & was_out[None]] = 0
    result[np.ix_(*places)] = np.asarray(old)
    return jnp.asarray(result)


def _places(small: int, wide: int, unit: tuple[int, int]) -> np.ndarray | None:
    """Where the entries of an axis go in the wider axis."""
    if small == wide:
        return np.arange(wide)
    blocks = small // unit[0]
    if small > wide or small != blocks * unit[0] or wide != blocks * unit[1]:
        return None
    return (np.arange(blocks)[:, None] * unit[1] + np.arange(unit[0])[None]).reshape(-1)
