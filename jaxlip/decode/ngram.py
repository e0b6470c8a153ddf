"""Interpolated n-gram models with Witten-Bell smoothing (Witten and Bell, IEEE Trans. Information Theory 37, 1991).

    p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h))

where t(h) counts the different tokens seen after h, and h' is h without its first token; below the unigrams every token
is as likely as any other. It has no parameters, and unlike Kneser-Ney's its discounts exist for the small and very
regular transcripts of lip-reading corpora too. It is exactly a back-off model: what was not seen after h has the weight
t(h) / (c(h) + t(h)) times p(w | h').
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from jaxlip.errors import UserError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
# What KenLM gives an unknown token where a model has no probability for it.
NO_UNKNOWN = -100 * math.log(10)

Gram = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class NGram:
    """A back-off model over strings (words, or the names of tokens); log-probabilities in nats. See `fit`, `read_arpa`.

    Its states are the contexts that it knows, the longest that fits.
    """

    order: int
    log_p: Mapping[Gram, float]
    """Of the last token of a gram after those before it."""
    backoff: Mapping[Gram, float]
    """What a gram weighs as a context, for tokens that were not seen after it."""

    def start(self) -> Gram:
        """The state at the beginning of a sentence."""
        return self._context((BEGIN,))

    def score(self, state: Gram, word: str) -> tuple[Gram, float]:
        """The next state, and log p of the word; one that the model lacks counts as <unk>."""
        if (word,) not in self.log_p or word in (BEGIN, END):
            word = UNKNOWN
        return self._context((*state, word)), self._log_p(state, word)

    def finish(self, state: Gram) -> float:
        """Log p of the end of the sentence."""
        return self._log_p(state, END)

    def words(self) -> tuple[str, ...]:
        """What the model gives a probability to, </s> and <unk> included."""
        return tuple(gram[0] for gram in self.log_p if len(gram) == 1 and gram[0] != BEGIN)

    def log_p_of(self, sentence: Iterable[str]) -> float:
        """Log p of a whole sentence, its end included."""
        state, total = self.start(), 0.0
        for word in sentence:
            state, log_p = self.score(state, word)
            total += log_p
        return total + self.finish(state)

    def _context(self, gram: Gram) -> Gram:
        gram = gram[max(len(gram) - self.order + 1, 0) :]
        while gram and gram not in self.backoff:
            gram = gram[1:]
        return gram

    def _log_p(self, context: Gram, word: str) -> float:
        total = 0.0
        while context:
            if (log_p := self.log_p.get((*context, word))) is not None:
                return total + log_p
            total += self.backoff.get(context, 0.0)
            context = context[1:]
        return total + self.log_p.get((word,), NO_UNKNOWN)


def fit(sentences: Iterable[Sequence[str]], order: int, words: Iterable[str] | None = None) -> NGram:
    """Fits a model of `order` on tokenised sentences.

    `words`: the vocabulary; what is not in it is counted as <unk>. None: all that occurs, so that <unk> has only its
    share of what is kept for the unseen. Raises UserError.
    """
    if order < 1:
        raise UserError(f"n-gram model: order={order} must be 1 or more; 3 is usual for words, 5 for characters.")
    sentences = list(sentences)
    if not sentences:
        raise UserError(
            "n-gram model: there are no sentences to fit it on; check the transcripts of the training split."
        )
    if any(isinstance(sentence, str) for sentence in sentences):
        raise TypeError("a sentence is a list of tokens, not one string; cut it first")
    known = _checked(words if words is not None else (word for sentence in sentences for word in sentence))
    counts: dict[Gram, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for sentence in sentences:
        padded = (BEGIN, *(word if word in known else UNKNOWN for word in sentence), END)
        for i in range(1, len(padded)):
            for first in range(max(i - order + 1, 0), i + 1):
                counts[padded[first:i]][padded[i]] += 1
    return _interpolated(counts, sorted(known), order)


def _checked(words: Iterable[str]) -> set[str]:
    words = set(words)
    for word in sorted(words):
        if word in (BEGIN, END, UNKNOWN):
            raise UserError(f"n-gram model: {word!r} means something else in a language model; rename that token.")
        if not word or any(map(str.isspace, word)):
            raise UserError(f"n-gram model: {word!r} is no token, as models are written with spaces; cut or rename it.")
    return words


def _interpolated(counts: Mapping[Gram, collections.Counter[str]], words: list[str], order: int) -> NGram:
    p: dict[Gram, float] = {(word,): 1 / (len(words) + 2) for word in (*words, UNKNOWN, END)}
    backoff: dict[Gram, float] = {}
    for context in sorted(counts, key=lambda context: (len(context), context)):
        seen, total, types = counts[context], counts[context].total(), len(counts[context])
        after = list(p) if not context else [(*context, word) for word in sorted(seen)]
        lower = [p[gram[1:] or gram] for gram in after]
        for gram, p_lower in zip(after, lower, strict=True):
            p[gram] = (seen[gram[-1]] + types * p_lower) / (total + types)
        if context:
            backoff[context] = math.log(types / (total + types))
    # Files need a probability for <s>, which nothing ever predicts.
    log_p = {(BEGIN,): -99 * math.log(10), **{gram: math.log(value) for gram, value in p.items()}}
    return NGram(order=order, log_p=log_p, backoff=backoff)
