"""Word and character error rate, sentence accuracy and recalls of transcripts, beside the best constant answer. NumPy.

For `wer` and `cer` LOWER is better, and they can exceed 1; for all other scores higher is better. Words are what white
space separates; characters are those of the words and of the single spaces between them.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from jaxlip.metrics.edit_distance import (
    Alignment,
    align_tokens,
    count_tokens,
    distances,
    next_row,
    pad_ids,
    pair_distances,
    prefix_rows,
)
from jaxlip.metrics.scores import Score, Scores

# A rate as sums over clips: what is counted [N], and out of how much [N].
Ratio = tuple[np.ndarray, np.ndarray]
Slots = tuple[tuple[str, tuple[str, ...]], ...]

CANDIDATES = 500
SEARCHED = 2000
FREQUENT = 60


def sentence_scores(
    references: Sequence[str],
    hypotheses: Sequence[str],
    clips: Sequence[str] | np.ndarray,
    constant: Sequence[str],
    *,
    slots: Slots = (),
) -> Scores:
    """`wer`, `cer` and `sentence_accuracy` of a split, each beside its floor: answering every clip with `constant`.

    One reference and one hypothesis a sentence; `clips` names the clip of each, the unit of the bootstrap; `constant`
    comes from `best_constant` of the TRAINING references. `slots` are (name, words) of a grammar. Tables: `edits` of
    the hypotheses and of the constant, `words` with the recall of each reference word, `slots` with that of each slot.
    An empty reference adds its insertions to the edits. Raises ValueError if the lists are not equally long, no
    reference has a word, or a word is in two slots.
    """
    if not len(references) == len(hypotheses) == len(clips):
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses and {len(clips)} clips")
    said, heard = ([text.split() for text in texts] for texts in (references, hypotheses))
    if not any(said):
        raise ValueError(f"no word in {len(said)} references: an error rate is edits by words")
    answers = [list(constant)] * len(said)
    aligned, floor_aligned = (
        [align_tokens(a, b) for a, b in zip(said, guesses, strict=True)] for guesses in (heard, answers)
    )
    rates, floors = _rates(said, heard, aligned), _rates(said, answers, floor_aligned)
    recalls, floor_recalls = _slot_recalls(aligned, slots), _slot_recalls(floor_aligned, slots)
    clips_N = np.asarray(clips)
    edits = {"hypotheses": aligned, f"always {' '.join(constant)!r}": floor_aligned}
    tables = {
        "edits": [_edit_row(name, rows) for name, rows in edits.items()],
        "words": _word_table([pair for alignment in aligned for pair in alignment.pairs]),
    }
    if slots:
        tables["slots"] = [_slot_row(name, recalls[name], floor_recalls[name], clips_N) for name, _ in slots]
    scores = {name: _score(rate, floors[name], clips_N) for name, rate in rates.items()}
    return Scores(count=len(said), scores=scores, tables=tables)


def _rates(said: list[list[str]], heard: list[list[str]], aligned: list[Alignment]) -> dict[str, Ratio]:
    """The sums behind each score."""
    said_text, heard_text = ([" ".join(words) for words in lists] for lists in (said, heard))
    right_N = np.array([a == b for a, b in zip(said, heard, strict=True)])
    return {
        "wer": (np.array([alignment.edits for alignment in aligned]), np.array([len(words) for words in said])),
        "cer": (pair_distances(said_text, heard_text), np.array([len(text) for text in said_text])),
        "sentence_accuracy": (right_N.astype(int), np.ones(len(said), int)),
    }


def _slot_recalls(aligned: list[Alignment], slots: Slots) -> dict[str, Ratio]:
    """Hits and reference words of each slot in each sentence."""
    slot_of: dict[object, int] = {word: s for s, (_, words) in enumerate(slots) for word in words}
    if len(slot_of) < sum(len(set(words)) for _, words in slots):
        twice = Counter(word for _, words in slots for word in set(words)).most_common(1)[0][0]
        raise ValueError(f"word {twice!r} is in two slots")
    hits_NS, support_NS = np.zeros((2, len(aligned), len(slots)), int)
    for n, alignment in enumerate(aligned):
        for word, guess in alignment.pairs:
            if word in slot_of:
                support_NS[n, slot_of[word]] += 1
                hits_NS[n, slot_of[word]] += word == guess
    return {name: (hits_NS[:, s], support_NS[:, s]) for s, (name, _) in enumerate(slots)}


def _score(ratio: Ratio, floor: Ratio, clips_N: np.ndarray) -> Score:
    """Value, interval and floor of a ratio of sums; 0 where there is nothing to count."""
    count_N, out_of_N = ratio
    value = float(count_N.sum() / max(out_of_N.sum(), 1))

    def statistic(weights_N):
        out_of = weights_N @ out_of_N
        # A draw without any of a rare slot's words says nothing of it.
        return float(weights_N @ count_N / out_of) if out_of else value

    return Score.of(statistic, clips_N, floor=float(floor[0].sum() / max(floor[1].sum(), 1)))


def _edit_row(name: str, aligned: list[Alignment]) -> dict:
    kinds = ("hits", "substitutions", "deletions", "insertions")
    counts = {kind: sum(getattr(alignment, kind) for alignment in aligned) for kind in kinds}
    reference_words = counts["hits"] + counts["substitutions"] + counts["deletions"]
    return {"answers": name, "reference_words": reference_words, **counts}


def _slot_row(name: str, recall: Ratio, floor: Ratio, clips_N: np.ndarray) -> dict:
    score = _score(recall, floor, clips_N)
    row = {"recall": score.value, "low": score.low, "high": score.high, "floor": score.floor}
    return {"slot": name, "support": int(recall[1].sum()), **row}


def _word_table(pairs: list[tuple]) -> list[dict]:
    """One row a reference word, most frequent first: support, recall, times missed, and what it is most taken for."""
    guesses: dict[str, Counter] = {}
    for word, guess in pairs:
        if word is not None:
            guesses.setdefault(word, Counter())[guess] += 1
    rows = []
    for word, counts in sorted(guesses.items(), key=lambda item: (-item[1].total(), item[0])):
        wrong = [(-count, guess) for guess, count in counts.items() if guess not in (word, None)]
        rows.append(
            {
                "word": word,
                "support": counts.total(),
                "recall": counts[word] / counts.total(),
                "missed": counts[None],
                "taken_for": min(wrong)[1] if wrong else "",
            }
        )
    return rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Emissions:
    """What a CTC model emits: `blank_ratio` of all real `frames` have the blank as best class; `distinct` tokens."""

    frames: int
    blank_ratio: float
    distinct: int


def emission_statistics(logits: Iterable[np.ndarray], frames: Iterable[np.ndarray], *, blank: int = 0) -> Emissions:
    """Emissions of a split from logits (or log probabilities) [T, K] and masks [T] of clips, or [B, T, K] and [B, T].

    A model that has collapsed shows here: blank ratio 1, or one or two distinct tokens. Raises ValueError if no frame
    is real.
    """
    best = [logits_TK.argmax(axis=-1)[real_T] for logits_TK, real_T in zip(logits, frames, strict=True)]
    best_F = np.concatenate([np.zeros(0, int), *best])
    if not len(best_F):
        raise ValueError(f"no real frame in {len(best)} clips")
    distinct = len(np.setdiff1d(best_F, [blank]))
    return Emissions(frames=len(best_F), blank_ratio=float((best_F == blank).mean()), distinct=distinct)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Sentences:
    """Distinct sentences as padded ids, and how often each occurs."""

    ids_RN: np.ndarray
    tokens_RN: np.ndarray
    times_R: np.ndarray

    def edits(self, constant: Sequence[int]) -> int:
        return int(distances(self.ids_RN, self.tokens_RN, constant) @ self.times_R)

    def some(self, count: int) -> "_Sentences":
        """At most so many of them, the same ones each time; drawn, since neighbours in a corpus are alike."""
        if len(self.times_R) <= count:
            return self
        drawn = np.sort(np.random.default_rng(0).choice(len(self.times_R), count, replace=False))
        return _Sentences(ids_RN=self.ids_RN[drawn], tokens_RN=self.tokens_RN[drawn], times_R=self.times_R[drawn])


def best_constant(train_references: Sequence[str]) -> tuple[str, ...]:
    """The words which, as the answer to every clip, need the fewest edits in all: the floor of sentence scores.

    The better of two hill climbs, from the best of the training sentences (500 of them at the most) and from nothing,
    by one word put in, left out or replaced at a time, over the 60 most frequent words. Never worse on the training
    references than the empty answer or a sentence tried; on more than 2,000 distinct ones it climbs on a sample. Does
    not depend on their order. Raises ValueError if there are none.
    """
    if not train_references:
        raise ValueError("no training references to fit a constant hypothesis to")
    times = Counter(tuple(text.split()) for text in train_references)
    frequency = Counter(word for sentence in sorted(times) for word in sentence * times[sentence])
    words = sorted(frequency, key=lambda word: (-frequency[word], word))
    id_of = {word: k for k, word in enumerate(words)}
    coded = [[id_of[word] for word in sentence] for sentence in sorted(times)]
    ids_RN, tokens_RN = pad_ids(coded)
    sentences = _Sentences(ids_RN=ids_RN, tokens_RN=tokens_RN, times_R=np.array([times[s] for s in sorted(times)]))
    searched, tried = sentences.some(SEARCHED), sentences.some(CANDIDATES)
    starts = [ids[real].tolist() for ids, real in zip(tried.ids_RN, tried.tokens_RN, strict=True)]
    start = min(starts, key=searched.edits)
    frequent = range(min(FREQUENT, len(words)))
    ends = [start, [], _climb(start, searched, frequent), _climb([], searched, frequent)]
    return tuple(words[k] for k in min(ends, key=sentences.edits))


def _climb(constant: list[int], sentences: _Sentences, frequent: Iterable[int]) -> list[int]:
    """Takes the best of all single edits until none is better."""
    edits = sentences.edits(constant)
    while True:
        found, nearby = min(_nearby(constant, sentences, frequent), default=(edits, constant))
        if found >= edits:
            return constant
        edits, constant = found, nearby


def _nearby(constant: list[int], sentences: _Sentences, frequent: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
    """Every answer one edit away, with its edits.

    Only the changed word costs a row: what comes before it is a row of the answer's own table, what comes after it a
    row of the table of everything reversed, and a sentence's distance is the least sum of both over where it is cut.
    """
    ids_RN, tokens_RN, times_R = sentences.ids_RN, sentences.tokens_RN, sentences.times_R
    count_RS, masked_RN = count_tokens(tokens_RN), np.where(tokens_RN, ids_RN, -1)
    before = prefix_rows(ids_RN, tokens_RN, constant)
    reversed_rows = prefix_rows(ids_RN[:, ::-1], tokens_RN[:, ::-1], constant[::-1])
    after = [row_RS[:, ::-1] for row_RS in reversed(reversed_rows)]

    def total(head_RS, tail_RS) -> int:
        return int((head_RS + tail_RS).min(axis=1) @ times_R)

    for m in range(len(constant) + 1):
        head, tail = constant[:m], constant[m:]
        if tail:
            yield total(before[m], after[m + 1]), head + tail[1:]
        for word in frequent:
            row_RS = next_row(before[m], word, masked_RN, count_RS)
            yield total(row_RS, after[m]), [*head, word, *tail]
            if tail:
                yield total(row_RS, after[m + 1]), [*head, word, *tail[1:]]
