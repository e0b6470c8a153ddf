"""Language models in beam search (shallow fusion): weight * ln p + a bonus for every token or word.

A model scores strings, one after the other; `jaxlip.decode.ngram` and `jaxlip.decode.kenlm` have such models. The bonus
makes up for the model's dislike of long transcripts (Hannun et al., arXiv:1408.2873, section 2.2).
"""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxlip.decode.scorers import States, always
from jaxlip.decode.words import SPACE, Spelling, Vocabulary

# How a model writes the token " ", as its files are separated by spaces.
SPACE_NAME = "<space>"
# Scores remembered from one search to the next (8 bytes each) before all are forgotten.
REMEMBERED = 2**25


@runtime_checkable
class LanguageModel(Protocol):
    """Scores a sentence string by string; states are hashable, equal where they continue equally."""

    def start(self) -> Hashable: ...

    def score(self, state: Any, word: str) -> tuple[Hashable, float]:
        """The next state, and ln p of the word after what came before."""
        ...

    def finish(self, state: Any) -> float:
        """Ln p of the end of the sentence."""
        ...


def token_names(vocabulary: Vocabulary) -> tuple[str, ...]:
    """What a language model over tokens calls them; token i has id i + 1."""
    return tuple(SPACE_NAME if token == SPACE else token for token in vocabulary.tokens)


def token_sentence(text: str, vocabulary: Vocabulary) -> list[str]:
    """A transcript as a language model over tokens is fitted on it. Raises UserError for an unknown token."""
    names = token_names(vocabulary)
    return [names[token - 1] for token in vocabulary.encode(text)]


class TokenLm:
    """A language model over the vocabulary's own tokens (characters, words or pieces), as a scorer."""

    def __init__(self, model: LanguageModel, vocabulary: Vocabulary, *, weight: float, bonus: float = 0.0):
        """`weight` of ln p, `bonus` a token (nats)."""
        self._model, self._weight, self._bonus = model, weight, bonus
        self._names = ("", *token_names(vocabulary))
        self._forget()

    def _forget(self) -> None:
        self._states = States(self._model.start(), self._children)
        self._scores_SK = np.full((64, len(self._names)), np.nan)

    def start(self) -> int:
        if self._scores_SK.size > REMEMBERED:
            self._forget()
        return 0

    def _children(self, ids_N: np.ndarray, tokens_N: np.ndarray) -> list[Hashable]:
        keys = self._states.keys
        pairs = zip(ids_N.tolist(), tokens_N.tolist(), strict=True)
        return [self._model.score(keys[i], self._names[token])[0] for i, token in pairs]

    def _fill(self, ids_N: np.ndarray, tokens_N: np.ndarray) -> None:
        """Asks the model for scores that are not there yet."""
        size = len(self._names)
        keys = self._states.keys
        for cell in set((ids_N * size + tokens_N).tolist()):
            i, token = divmod(cell, size)
            log_p = self._model.score(keys[i], self._names[token])[1]
            self._scores_SK[i, token] = self._weight * log_p + self._bonus

    def extend(self, states: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids = self._states.resolve(states)
        if (lacking := len(self._states.keys) - len(self._scores_SK)) > 0:
            more_SK = np.full((max(lacking, len(self._scores_SK)), self._scores_SK.shape[1]), np.nan)
            self._scores_SK = np.concatenate([self._scores_SK, more_SK])
        scores = self._scores_SK[ids, tokens]
        missing = np.isnan(scores)
        if missing.any():
            ids, tokens = np.broadcast_arrays(ids, tokens)
            self._fill(ids[missing], tokens[missing])
            scores = self._scores_SK[ids, tokens]
        return self._states.codes(ids, tokens), scores

    def may_end(self, states: np.ndarray, tokens: np.ndarray, frames: np.ndarray) -> np.ndarray:
        return always(states, tokens, frames)

    def finish(self, states: np.ndarray) -> np.ndarray:
        ids_N, inverse = np.unique(self._states.resolve(states), return_inverse=True)
        ends_N = np.array([self._weight * self._model.finish(self._states.keys[i]) for i in ids_N.tolist()])
        return ends_N[inverse].reshape(states.shape)


class WordLm:
    """A language model over words, as a scorer of tokens of which words are made.

    A word is scored when it is over: by the space or the head of the next word, or at the end of the utterance. With
    the unit "words", `TokenLm` scores the same one word earlier. Words that the model lacks cost <unk>, once each, so
    that misspelled ones are glued together: add a lexicon (`Sum`) where all words are known.
    """

    def __init__(self, model: LanguageModel, vocabulary: Vocabulary, *, weight: float, bonus: float = 0.0):
        """`weight` of ln p, `bonus` a word (nats). Raises UserError for pieces that reach over the edge of a word."""
        self._model, self._weight, self._bonus = model, weight, bonus
        self._spelling = Spelling.of(vocabulary)
        self._forget()

    def _forget(self) -> None:
        # A key is the model's state after the words that are over, and the word that is not.
        self._states = States((self._model.start(), ""), self._children)
        self._over: list[Hashable] = []
        self._score_S = np.empty(0)
        self._update()

    def start(self) -> int:
        if len(self._states.keys) * 32 > REMEMBERED:
            self._forget()
        return 0

    def _children(self, ids_N: np.ndarray, tokens_N: np.ndarray) -> Sequence[Hashable]:
        keys: list[Any] = self._states.keys
        texts, ends_K = self._spelling.texts, self._spelling.ends_K
        after: list[Hashable] = []
        for i, token in zip(ids_N.tolist(), tokens_N.tolist(), strict=True):
            state, word = keys[i]
            after.append((self._over[i], texts[token]) if ends_K[token] else (state, word + texts[token]))
        return after

    def _update(self) -> None:
        """For states that are new: the model's state once their word is over, and what that scores."""
        scores = []
        new: list[Any] = self._states.keys[len(self._over) :]
        for state, word in new:
            after, log_p = self._model.score(state, self._spelling.word_of(word)) if word else (state, 0.0)
            self._over.append(after)
            scores.append(self._weight * log_p + self._bonus if word else 0.0)
        if scores:
            self._score_S = np.concatenate([self._score_S, scores])

    def _resolve(self, states: np.ndarray) -> np.ndarray:
        ids = self._states.resolve(states)
        self._update()
        return ids

    def extend(self, states: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids = self._resolve(states)
        return self._states.codes(ids, tokens), np.where(self._spelling.ends_K[tokens], self._score_S[ids], 0.0)

    def may_end(self, states: np.ndarray, tokens: np.ndarray, frames: np.ndarray) -> np.ndarray:
        return always(states, tokens, frames)

    def finish(self, states: np.ndarray) -> np.ndarray:
        ids_N, inverse = np.unique(self._resolve(states), return_inverse=True)
        ends_N = np.array([self._weight * self._model.finish(self._over[i]) for i in ids_N.tolist()])
        return (self._score_S[ids_N] + ends_N)[inverse].reshape(states.shape)
