"""Grammars and lexica as finite automata over tokens: what a transcript may be, whatever the network believes.

A graph of words is spelled out in tokens and made deterministic by subset construction (Rabin and Scott, 1959); states
from which no end can be reached are cut off.
"""

import dataclasses
import functools
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int

from jaxlip.decode.words import Vocabulary, separator, spell
from jaxlip.errors import UserError

MAX_CELLS = 2**27
FORBIDDEN = -1
NEVER = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Automaton:
    """A deterministic acceptor of token sequences, as a scorer: 0 for what it accepts, -inf for all else."""

    next_SK: Int[np.ndarray, "S K"]
    """The state after a token, or FORBIDDEN; the first state is 0."""
    final_S: Bool[np.ndarray, " S"]
    """Whether the sequence may end here."""

    def start(self) -> int:
        return 0

    def extend(self, states: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        after = self.next_SK[states, tokens]
        return after, np.where(after == FORBIDDEN, -np.inf, 0.0)

    def may_end(self, states: np.ndarray, tokens: np.ndarray, frames: np.ndarray) -> np.ndarray:
        return self._frames_SK[states, tokens] <= frames

    @functools.cached_property
    def _frames_SK(self) -> np.ndarray:
        """The fewest frames to an end, from each state by way of each token, whose own frame is not counted.

        The column of the blank: from the state as it is. A token that repeats the one before it takes a blank as well,
        so what the last token was counts too.
        """
        end_SK = np.where(self.final_S[:, None], 0, np.full(self.next_SK.shape, NEVER, np.int32))
        legal_SK, tokens_K = self.next_SK != FORBIDDEN, np.arange(self.next_SK.shape[1])
        while True:
            way_SK = np.where(legal_SK, 1 + end_SK[self.next_SK, tokens_K[None]], NEVER)
            least_S1 = way_SK.min(axis=1, keepdims=True)
            only_SK = (way_SK == least_S1) & ((way_SK == least_S1).sum(axis=1, keepdims=True) == 1)
            new_SK = np.minimum(end_SK, np.minimum(least_S1 + only_SK, NEVER))
            if (new_SK == end_SK).all():
                break
            end_SK = new_SK
        # The blank leads nowhere, and nothing repeats it.
        return np.where(legal_SK, end_SK[self.next_SK, tokens_K[None]], end_SK)

    def finish(self, states: np.ndarray) -> np.ndarray:
        return np.where(self.final_S[states], 0.0, -np.inf)

    def accepts(self, tokens: Iterable[int]) -> bool:
        """Whether a sequence of token ids is legal."""
        state = 0
        for token in tokens:
            state = int(self.next_SK[state, token])
            if state == FORBIDDEN:
                return False
        return bool(self.final_S[state])


def slots(grammar: Sequence[tuple[str, Sequence[str]]], vocabulary: Vocabulary) -> Automaton:
    """One word out of every slot, in order; `grammar` is (name of the slot, its words). Raises UserError."""
    arcs = []
    for place, (name, words) in enumerate(grammar):
        if not words:
            raise UserError(f"grammar slot {name!r} has no words; give it one or more, or leave it out.")
        arcs += [(place, word, place + 1, f"grammar slot {name!r}") for word in words]
    return _spelled(arcs, 0, [len(grammar)], vocabulary)


def lexicon(words: Iterable[str], vocabulary: Vocabulary) -> Automaton:
    """Any sequence of known words, the empty one too. Raises UserError."""
    return _spelled([(0, word, 0, "lexicon") for word in words], 0, [0], vocabulary)


def from_word_graph(
    arcs: Iterable[tuple[Hashable, str, Hashable]], start: Hashable, finals: Iterable[Hashable], vocabulary: Vocabulary
) -> Automaton:
    """The words along all paths from `start` to one of `finals`; arcs are (node, word, node).

    A word is spelled by the vocabulary: in characters with one space between words and none at the ends, in pieces the
    one way in which `encode` cuts it. Raises UserError for a word that cannot be spelled, a graph without a path, and
    one too large to tabulate.
    """
    return _spelled([(*arc, "word graph") for arc in arcs], start, finals, vocabulary)


class _Tokens:
    """The word graph spelled out, not yet deterministic.

    Its places: ("begin", node) before the first word, ("after", node) a word, ("before", node) once the space has come,
    and ("in", arc, n) behind the first n tokens of a word.
    """

    def __init__(self, arcs, vocabulary: Vocabulary):
        self._space = separator(vocabulary, arcs[0][3]) if arcs else None
        self._arcs = [(spell(word, vocabulary, where), target) for _, word, target, where in arcs]
        self._arcs_from: dict[Hashable, list[int]] = {}
        for number, arc in enumerate(arcs):
            self._arcs_from.setdefault(arc[0], []).append(number)

    def moves(self, place: tuple) -> list[tuple[int, tuple]]:
        """(token, place) of all steps from a place."""
        if place[0] == "in":
            return [self._step(place[1], place[2])]
        if place[0] == "after" and self._space is not None:
            return [(self._space, ("before", place[1]))]
        return [self._step(arc, 0) for arc in self._arcs_from.get(place[1], ())]

    def _step(self, arc: int, done: int) -> tuple[int, tuple]:
        tokens, target = self._arcs[arc]
        return tokens[done], ("in", arc, done + 1) if done + 1 < len(tokens) else ("after", target)


def _spelled(arcs, start: Hashable, finals: Iterable[Hashable], vocabulary: Vocabulary) -> Automaton:
    tokens, ends = _Tokens(arcs, vocabulary), set(finals)
    subsets = {frozenset([("begin", start)]): 0}
    rows: list[dict[int, int]] = []
    for subset in (queue := list(subsets)):
        reached: dict[int, set] = {}
        for place in subset:
            for token, after in tokens.moves(place):
                reached.setdefault(token, set()).add(after)
        row = {token: subsets.setdefault(frozenset(after), len(subsets)) for token, after in sorted(reached.items())}
        queue.extend(list(subsets)[len(queue) :])
        rows.append(row)
    final_S = np.array([any(p[0] in ("begin", "after") and p[1] in ends for p in subset) for subset in subsets])
    if len(rows) * len(vocabulary) > MAX_CELLS:
        raise UserError(
            f"{arcs[0][3]}: {len(rows)} states of {len(vocabulary)} tokens are too many to tabulate (limit "
            f"{MAX_CELLS} cells); use fewer words, or the unit characters."
        )
    next_SK = np.full((len(rows), len(vocabulary)), FORBIDDEN, np.int32)
    for state, row in enumerate(rows):
        next_SK[state, list(row)] = list(row.values())
    return _trimmed(next_SK, final_S, arcs[0][3] if arcs else "grammar")


def _trimmed(next_SK: np.ndarray, final_S: np.ndarray, where: str) -> Automaton:
    """The automaton without the states from which no end can be reached."""
    from_E, token_E = np.nonzero(next_SK != FORBIDDEN)
    to_E = next_SK[from_E, token_E]
    useful_S = final_S.copy()
    while (grown := from_E[useful_S[to_E] & ~useful_S[from_E]]).size:
        useful_S[grown] = True
    if not useful_S[0]:
        raise UserError(f"{where}: no sequence of words leads from the start to an end; check words and finals.")
    number_S = np.where(useful_S, np.cumsum(useful_S) - 1, FORBIDDEN).astype(np.int32)
    kept_SK = next_SK[useful_S]
    return Automaton(
        next_SK=np.where(kept_SK == FORBIDDEN, FORBIDDEN, number_S[kept_SK]).astype(np.int32), final_S=final_S[useful_S]
    )
