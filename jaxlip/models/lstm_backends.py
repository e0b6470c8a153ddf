"""What computes an LSTM layer: the scan everywhere, kernels on GPUs, one function for all.

Which backend it is, is read while a program is traced; `lstm_backend` says it for what is traced inside of it, and
whoever compiles holds on to it (`Program.lstm`), since a compiled function does not look again.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxlip.models import lstm_pallas
from jaxlip.models.lstm_cudnn import cudnn_layer
from jaxlip.models.lstm_scan import lstm_scan


class Weights(NamedTuple):
    """Of one layer in G directions: 1 (forward) or 2 (and backward); X = 4 H, gates as in PyTorch, with two biases."""

    input_GDX: Float[Array, "G D X"]
    recurrent_GHX: Float[Array, "G H X"]
    input_bias_GX: Float[Array, "G X"]
    recurrent_bias_GX: Float[Array, "G X"]


@dataclasses.dataclass(frozen=True, order=True)
class Call:
    """The sizes of one layer at work, and the type it works in."""

    directions: int
    examples: int
    frames: int
    fan_in: int
    hidden: int
    dtype: str


class Backend(NamedTuple):
    """`layer` gives the states [B, T, G H] of real frames, anything elsewhere; `refuses`, why not a call, or ""."""

    layer: Callable[[Array, Array, Weights], Array]
    refuses: Callable[[Call], str]


def projected_first(recurrence: Callable[..., Any]) -> Callable[[Array, Array, Weights], Array]:
    """The layer of a recurrence that takes projected inputs, all in one product, in the order of its directions."""

    def layer(x_BTD, frames_BT, weights):
        bias_GX = weights.input_bias_GX + weights.recurrent_bias_GX
        pre_GTBX = jnp.einsum("btd,gdx->gtbx", x_BTD, weights.input_GDX) + bias_GX[:, None, None]
        frames_TB, steps = frames_BT.T, (slice(None), slice(None, None, -1))[: len(bias_GX)]
        pre_TGBX = jnp.stack([pre_TBX[step] for pre_TBX, step in zip(pre_GTBX, steps, strict=True)], axis=1)
        real_TGB = jnp.stack([frames_TB[step] for step in steps], axis=1)
        h_TGBH = recurrence(pre_TGBX, real_TGB, weights.recurrent_GHX)
        h_TBH = jnp.concatenate([h_TGBH[step, g] for g, step in enumerate(steps)], axis=-1)
        return jnp.swapaxes(h_TBH, 0, 1)

    return layer


def _pallas_refuses(call: Call) -> str:
    if call.dtype not in lstm_pallas.TYPES:
        return f"it computes in {', '.join(lstm_pallas.TYPES)}, not in {call.dtype}"
    fits = call.hidden <= lstm_pallas.LARGEST
    return "" if fits else f"it holds up to {lstm_pallas.LARGEST} hidden units, not {call.hidden}"


def _cudnn_refuses(call: Call) -> str:
    return "" if call.dtype == "float32" else f"it computes in float32, not in {call.dtype}"


BACKENDS = {
    "scan": Backend(projected_first(lstm_scan), lambda call: ""),
    "pallas": Backend(projected_first(lstm_pallas.lstm_pallas), _pallas_refuses),
    "cudnn": Backend(cudnn_layer, _cudnn_refuses),
}

_backend: contextvars.ContextVar[str] = contextvars.ContextVar("lstm_backend", default="scan")
_heard: contextvars.ContextVar[list[Call] | None] = contextvars.ContextVar("lstm_calls", default=None)


@contextlib.contextmanager
def lstm_backend(name: str) -> Iterator[None]:
    """What is traced inside computes its LSTMs by this backend: "scan", "pallas" or "cudnn". Raises ValueError.

    A function that `jax.jit` has traced before is not traced again.
    """
    if name not in BACKENDS:
        raise ValueError(f"the LSTM backend is {name!r}; it must be one of {', '.join(BACKENDS)}")
    token = _backend.set(name)
    try:
        yield
    finally:
        _backend.reset(token)


@contextlib.contextmanager
def recorded_calls() -> Iterator[list[Call]]:
    """The calls of every layer that is traced inside, in order."""
    calls: list[Call] = []
    token = _heard.set(calls)
    try:
        yield calls
    finally:
        _heard.reset(token)


def lstm_layer(x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"], weights: Weights) -> Float[Array, "B T GH"]:
    """States of all directions side by side; zero where the frame is not real, and the state passes through it.

    In the type of the weights; in half precision cells and sums are float32. Raises ValueError where the backend in use
    does not compute such a call.
    """
    x_BTD = x_BTD.astype(weights.recurrent_GHX.dtype)
    (size_B, size_T, size_D), (size_G, size_H) = x_BTD.shape, weights.recurrent_GHX.shape[:2]
    call = Call(size_G, size_B, size_T, size_D, size_H, x_BTD.dtype.name)
    if (calls := _heard.get()) is not None:
        calls.append(call)
    name = _backend.get()
    if reason := BACKENDS[name].refuses(call):
        raise ValueError(f"the LSTM backend {name} cannot be used here: {reason}")
    return jnp.where(frames_BT[..., None], BACKENDS[name].layer(x_BTD, frames_BT, weights), 0)
