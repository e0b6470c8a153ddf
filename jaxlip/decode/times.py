"""When each word of a transcript was said, and how sure the network is of it, by forced alignment."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxlip.decode.words import Spelling, Vocabulary
from jaxlip.losses.ctc import align

# Label axes are padded to a multiple of this, so that few shapes are compiled.
ROUND_UP = 16
_align = jax.jit(align)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimedWord:
    """A word with its times in seconds from the first frame of the clip, and a confidence in [0, 1]."""

    text: str
    start: float
    end: float
    confidence: float
    """That of its least sure token."""


def word_times(
    logits_BTK: Float[np.ndarray, "B T K"],
    frames_BT: Bool[np.ndarray, "B T"],
    transcripts: Sequence[Sequence[int]],
    vocabulary: Vocabulary,
    *,
    fps: float | Sequence[float],
) -> list[list[TimedWord]]:
    """Aligns one sequence of token ids a clip, such as the best hypothesis, and groups its tokens into words.

    Logits or log-probabilities. `fps`: frames a second, of all clips or of each. A word lasts from the first frame of
    its first token to the last of its last. Raises ValueError for a transcript that its clip's frames cannot
    hold, or that has probability 0 there.
    """
    if len(transcripts) != len(logits_BTK):
        raise ValueError(f"{len(transcripts)} transcripts for {len(logits_BTK)} clips")
    if not transcripts:
        return []
    aligned = _aligned(logits_BTK, frames_BT, transcripts)
    spelling = Spelling.of(vocabulary)
    fps_B = np.broadcast_to(np.asarray(fps, np.float64), len(transcripts))
    timed = []
    for b, tokens in enumerate(transcripts):
        if not aligned["feasible_B"][b]:
            raise ValueError(
                f"transcript {b} of {len(tokens)} tokens has no path in its {frames_BT[b].sum()} real frames"
            )
        start_N, end_N = aligned["first_BN"][b] / fps_B[b], aligned["end_BN"][b] / fps_B[b]
        confidence_N = aligned["confidence_BN"][b]
        timed.append(
            [
                TimedWord(
                    text=text,
                    start=float(start_N[first]),
                    end=float(end_N[end - 1]),
                    confidence=float(confidence_N[first:end].min()),
                )
                for text, first, end in spelling.words(tokens)
            ]
        )
    return timed


def _aligned(
    logits_BTK: np.ndarray, frames_BT: np.ndarray, transcripts: Sequence[Sequence[int]]
) -> dict[str, np.ndarray]:
    """The arrays of `align` for transcripts of any lengths."""
    lengths_B = np.array([len(tokens) for tokens in transcripts])
    size_N = -(-max(lengths_B.max(), 1) // ROUND_UP) * ROUND_UP
    tokens_BN = np.arange(size_N)[None] < lengths_B[:, None]
    labels_BN = np.zeros(tokens_BN.shape, np.int32)
    labels_BN[tokens_BN] = [token for tokens in transcripts for token in tokens]
    alignment = _align(*map(jnp.asarray, (logits_BTK, frames_BT, labels_BN, tokens_BN)))
    return {name: np.asarray(array) for name, array in vars(alignment).items()}
