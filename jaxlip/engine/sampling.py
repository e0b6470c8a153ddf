"""Which examples an epoch sees: weights by group, from how often groups occur and how well they are known already.

The weights in force are part of the position in a checkpoint, and the recent losses they come from of its state, so
that a resumed run draws the same examples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlip.config import Sampling
from jaxlip.data.batches import Split
from jaxlip.errors import UserError
from jaxlip.tasks.base import GroupOf


def groups_of_examples(task: Any, split: Split, spec: Any) -> list[np.ndarray]:
    """The group of every training example, bucket by bucket. Raises UserError where the task knows of none."""
    if not isinstance(task, GroupOf):
        raise UserError(f"train.sampling is set, but the task {type(task).__name__} cannot tell an example's group.")
    return [task.group_of(bucket, spec) for bucket in split.buckets]


def sampling_weights(
    config: Sampling, groups: Sequence[np.ndarray], count: int, recent_G: np.ndarray | None
) -> tuple[float, ...]:
    """What an example of each of `count` groups weighs; a group whose loss is not known yet counts as the mean one."""
    occurs_G = np.maximum(np.bincount(np.concatenate(groups), minlength=count), 1)
    weight_G = occurs_G.astype(np.float64) ** -config.balance
    if config.hard and recent_G is not None and (recent_G > 0).any():
        loss_G = np.where(recent_G > 0, recent_G, recent_G[recent_G > 0].mean()).astype(np.float64)
        weight_G = weight_G * loss_G**config.hard
    return tuple((weight_G / weight_G.max()).tolist())
