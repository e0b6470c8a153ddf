"""Long clips in overlapping stretches of the length that a model was trained on, and its outputs put together again."""

import jax
import numpy as np

from jaxlip.data.face import Example, FaceClip

# Part of a stretch that it shares with the next: words are cut at its ends, where the model knows least.
OVERLAP = 1 / 3


def stretches(clip: FaceClip, longest: int) -> list[Example]:
    """The clip as one question to a sentence model if it has no more than `longest` frames, else as several."""
    frames = len(clip.frames_T)
    step = longest - int(longest * OVERLAP)
    starts = [0] if frames <= longest else [*range(0, frames - longest, step), frames - longest]
    return [
        Example(
            clip=clip,
            name=clip.name,
            first=start,
            length=min(frames, longest),
            speech_T=clip.detected_T,
            label=None,
        )
        for start in starts
    ]


def put_together(logits: list[np.ndarray], parts: list[Example], length: int) -> np.ndarray:
    """Log-probabilities [1, length, K] from the logits [1, at least its frames, K] of every stretch.

    Where stretches overlap, the mean of the log-probabilities, each weighted by its distance from the stretch's ends.
    """
    if len(parts) == 1:
        return _log_softmax(logits[0])
    total_TK = np.zeros((length, logits[0].shape[-1]), np.float32)
    weight_T1 = np.zeros((length, 1), np.float32)
    for logits_1TK, part in zip(logits, parts, strict=True):
        frame_T = np.arange(part.length)
        near_T1 = (np.minimum(frame_T, frame_T[::-1]) + 1.0)[:, None]
        to = slice(part.first, part.first + part.length)
        total_TK[to] += near_T1 * _log_softmax(logits_1TK[0, : part.length])
        weight_T1[to] += near_T1
    return (total_TK / np.maximum(weight_T1, 1e-9))[None]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.log_softmax(np.asarray(logits, np.float32), axis=-1))
