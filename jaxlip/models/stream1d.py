"""The MobileNetV3 student on a stream: the same outputs as on the whole clip, `AHEAD` frames later.

Frames are encoded once, as they come; convolutions run over the encoded frames of a window with the context that they
reach on both sides, and the LSTM goes on where it stopped. What lies before the first frame and after the last is
masked, which is what the convolutions do at the ends of a clip.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxlip.data.sentences import CtcSpec
from jaxlip.errors import UserError
from jaxlip.models.base import Flat, from_nnx
from jaxlip.models.mobilenet1d import BLOCKS, STRIDE, WIDTH, MobileNet1d, MobileNet1dModule

MOTION = 2
"""Frames back that features look."""


def _reach() -> int:
    """Frames that a step before the LSTM sees on each side of its first frame."""
    frames, reach = 2, 1
    for block in BLOCKS:
        reach += block.kernel // 2 * frames
        frames *= block.stride
    # The smoothing convolution, on frames or on steps.
    return reach + STRIDE


AHEAD = -(-_reach() // STRIDE) * STRIDE
"""Frames that must have come after a frame before its logits are known."""
BACK = AHEAD + STRIDE


class _Piece(NamedTuple):
    """Landmarks of new frames after the MOTION ones before them, and encoded frames of a window."""

    landmarks_BTVC: Any
    frames_BT: Any
    encoded_BTD: Any
    window_BT: Any
    carry: Any


class _Streaming(MobileNet1dModule):
    """The student cut in two: frames to encoded frames, windows of those to logits."""

    def __call__(self, batch: _Piece, key: Array | None) -> Any:
        if batch.encoded_BTD is None:
            vectors_BTD = self.input.vectors(batch.landmarks_BTVC, batch.frames_BT, batch.frames_BT)
            return self.encode(vectors_BTD, batch.frames_BT, key)[:, MOTION:]
        x_BTD, steps_BT = self.convolutions(batch.encoded_BTD, batch.window_BT, key)
        stride = batch.window_BT.shape[1] // x_BTD.shape[1]
        middle = slice(BACK // stride, x_BTD.shape[1] - AHEAD // stride)
        h_BTH, carry = self.lstm.resume(x_BTD[:, middle], batch.carry)  # type: ignore[union-attr]
        return self.tokens(h_BTH), steps_BT[:, middle], carry


class Stream:
    """Logits of one clip whose frames come a few at a time. Raises UserError for a model that looks at whole clips."""

    def __init__(self, config: MobileNet1d, spec: CtcSpec, params: Flat, state: Flat, *, chunk: int = 16):
        if config.bidirectional or config.squeeze:
            raise UserError(
                "a model that streams has no backward LSTM and no squeeze-excite, which look at whole clips: train one "
                "with --task.model.no-bidirectional --task.model.no-squeeze."
            )
        if chunk < STRIDE or chunk % STRIDE:
            raise UserError(f"chunk={chunk} is not a multiple of {STRIDE} frames.")
        model = from_nnx(lambda rngs: _Streaming(config, spec, rngs=rngs))
        self._apply = jax.jit(lambda piece: model.apply(params, state, piece, None)[0])
        self._chunk, self._ids = chunk, len(spec.input.ids)
        self._recent = np.zeros((MOTION, self._ids, 3), np.float32)
        self._recent_real = np.zeros(MOTION, bool)
        self._waiting: list[np.ndarray] = []
        self._window = np.zeros((BACK, 384), np.float32)
        self._real = np.zeros(BACK, bool)
        zeros = jnp.zeros((1, WIDTH), jnp.float32)
        self._carry = (zeros, zeros)

    def push(self, landmarks_TVC: Float[np.ndarray, "T V 3"]) -> Float[np.ndarray, "Ts K"]:
        """Takes in new frames, prepared as in training; logits of the steps that are known now."""
        self._waiting.extend(landmarks_TVC)
        while len(self._waiting) >= self._chunk:
            self._encode(self._waiting[: self._chunk], self._chunk)
            del self._waiting[: self._chunk]
        return self._known(self._chunk + AHEAD)

    def finish(self) -> Float[np.ndarray, "Ts K"]:
        """Logits of all that is left once the last frame has come."""
        if self._waiting:
            short = self._chunk - len(self._waiting)
            self._encode([*self._waiting, *[self._waiting[-1]] * short], len(self._waiting))
            self._waiting = []
        left = len(self._real) - BACK
        padding = -(-max(left, 1) // self._chunk) * self._chunk + AHEAD - left
        self._window = np.concatenate([self._window, np.zeros((padding, self._window.shape[1]), np.float32)])
        self._real = np.concatenate([self._real, np.zeros(padding, bool)])
        return self._known(self._chunk + AHEAD)

    def _encode(self, frames: list[np.ndarray], real: int) -> None:
        landmarks_TVC = np.concatenate([self._recent, np.stack(frames)])
        real_T = np.concatenate([self._recent_real, np.arange(len(frames)) < real])
        piece = _Piece(landmarks_TVC[None], real_T[None], None, None, None)
        self._window = np.concatenate([self._window, np.asarray(self._apply(piece))[0]])
        self._real = np.concatenate([self._real, real_T[MOTION:]])
        self._recent, self._recent_real = landmarks_TVC[-MOTION:], real_T[-MOTION:]

    def _known(self, needed: int) -> np.ndarray:
        """Logits of as many whole chunks as have `needed` frames behind the context."""
        logits = []
        while len(self._real) - BACK >= needed:
            size = BACK + self._chunk + AHEAD
            piece = _Piece(None, None, self._window[None, :size], self._real[None, :size], self._carry)
            logits_1TK, steps_1T, self._carry = self._apply(piece)
            logits.append(np.asarray(logits_1TK)[0][np.asarray(steps_1T)[0]])
            self._window, self._real = self._window[self._chunk :], self._real[self._chunk :]
        return np.concatenate(logits) if logits else np.zeros((0, 0), np.float32)
