"""What the mouth does on average in each word, as running sums over the examples of a split."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from jaxlip.face.presets import LIPS_INNER, LIPS_OUTER

LIPS = LIPS_OUTER + LIPS_INNER
"""FaceMesh ids, outer ring first, each in the order of its outline."""
_UPPER, _LOWER = LIPS.index(13), LIPS.index(14)


def opening(lips_TVC: Float[np.ndarray, "T V C"]) -> Float[np.ndarray, " T"]:
    """The gap between the inner lips in each frame."""
    return np.linalg.norm(lips_TVC[:, _UPPER] - lips_TVC[:, _LOWER], axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClassMean:
    """A word's mean mouth: `shape_V2` over its frames, `opening_T` over the window around it (NaN without frames)."""

    word: str
    examples: int
    shape_V2: np.ndarray
    opening_T: np.ndarray
    speech_T: np.ndarray
    """Part of the examples in which the word is being said in each frame of the window."""


class ClassMeans:
    """Sums over the examples of each word."""

    def __init__(self, window: int):
        self._window = window
        self._sums: dict[str, dict[str, np.ndarray]] = {}
        self._examples: dict[str, int] = {}

    def add(
        self,
        word: str,
        lips_TVC: Float[np.ndarray, "T V C"],
        frames_T: Bool[np.ndarray, " T"],
        speech_T: Bool[np.ndarray, " T"],
    ) -> None:
        """One example; the lips of LIPS in the window around the word."""
        if word not in self._sums:
            zeros_T = np.zeros(self._window)
            self._sums[word] = {"shape": np.zeros((len(LIPS), 2)), "said": np.zeros(1)} | {
                name: zeros_T.copy() for name in ("opening", "frames", "speech")
            }
        sums, said_T = self._sums[word], frames_T & speech_T
        self._examples[word] = self._examples.get(word, 0) + 1
        centred_TV2 = lips_TVC[said_T][..., :2] - lips_TVC[said_T][..., :2].mean(axis=1, keepdims=True)
        sums["shape"] += centred_TV2.sum(axis=0)
        sums["said"] += said_T.sum()
        sums["opening"] += np.where(frames_T, opening(lips_TVC), 0)
        sums["frames"] += frames_T
        sums["speech"] += said_T

    def means(self) -> list[ClassMean]:
        """Of every word that was added, by name."""
        return [self._mean(word) for word in sorted(self._sums)]

    def _mean(self, word: str) -> ClassMean:
        sums, examples = self._sums[word], self._examples[word]
        with np.errstate(invalid="ignore", divide="ignore"):
            opening_T = sums["opening"] / sums["frames"]
        return ClassMean(
            word=word,
            examples=examples,
            shape_V2=sums["shape"] / np.maximum(sums["said"], 1),
            opening_T=opening_T,
            speech_T=sums["speech"] / examples,
        )
