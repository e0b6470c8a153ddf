"""What a run costs where it is used: bytes of weights in three precisions, what that does to scores, and speed."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.data.batches import Corpus
from jaxlip.models.base import Flat
from jaxlip.report.saved import Saved

FPS = 25.0
"""Frames of a second of video."""
REPEATS = 7


def int8(params: Flat) -> Flat:
    """Weights rounded to 255 levels, each output channel by its own largest one; vectors stay as they are."""

    def rounded(weight):
        if weight.ndim < 2:
            return weight
        step = jnp.max(jnp.abs(weight), axis=tuple(range(weight.ndim - 1)), keepdims=True) / 127
        return jnp.round(weight / jnp.maximum(step, 1e-12)) * step

    return {name: rounded(weight) for name, weight in params.items()}


def bfloat16(params: Flat) -> Flat:
    """Weights rounded to bfloat16; computed with in float32."""
    return {name: weight.astype(jnp.bfloat16).astype(weight.dtype) for name, weight in params.items()}


PRECISIONS: dict[str, Callable[[Flat], Flat]] = {"float32": lambda params: params, "bfloat16": bfloat16, "int8": int8}


def megabytes(params: Flat, precision: str) -> float:
    """Bytes / 2^20 of the weights; int8 with one float32 an output channel, and vectors in float32."""
    sizes = {"float32": 4, "bfloat16": 2}
    if precision in sizes:
        total = sum(sizes[precision] * math.prod(p.shape) for p in params.values())
    else:
        total = sum(math.prod(p.shape) + 4 * p.shape[-1] if p.ndim > 1 else 4 * p.size for p in params.values())
    return total / 2**20


def seconds_per_second(saved: Saved, corpus: Corpus, split: str) -> float:
    """Time for one second of video on this machine: the median of several runs on the longest bucket's first clip."""
    part = corpus.splits[split]
    bucket = max(range(len(part.buckets)), key=lambda b: part.buckets[b].frames_BT.shape[1])
    batch = jax.device_put(part.take(bucket, np.zeros(1, int)))
    apply = jax.jit(lambda params, state, batch: saved.model.apply(params, state, batch, None)[0])
    arguments = (saved.state.best_params, saved.state.model_state, batch)
    jax.block_until_ready(apply(*arguments))
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(apply(*arguments))
        took.append(time.perf_counter() - began)
    return float(np.median(took)) * FPS / batch.frames_BT.shape[1]


def weigh(saved: Saved, corpus: Corpus, split: str) -> list[dict[str, Any]]:
    """One row a precision: megabytes, the run's monitored metric on the split, and milliseconds a second of video."""
    monitor, params = saved.meta.experiment.train.monitor, saved.state.best_params
    speed = 1000 * seconds_per_second(saved, corpus, split)
    rows = []
    for name, convert in PRECISIONS.items():
        state = dataclasses.replace(saved.state, params=convert(params), average={})
        _, metrics = dataclasses.replace(saved, state=state).predict(corpus, split)
        rows.append(
            {
                "run": saved.folder.path.name,
                "parameters": sum(math.prod(p.shape) for p in params.values()),
                "weights": name,
                "MB": round(megabytes(params, name), 2),
                monitor: round(metrics[monitor], 4),
                "ms_per_second_of_video": round(speed, 1),
            }
        )
    return rows
