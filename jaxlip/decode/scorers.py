"""What may be added to the score of a prefix during beam search: grammars, lexica, language models, and sums of them.

A scorer walks over integer states. Beam search asks for all extensions of all prefixes at once, but goes on with few of
them: `States` names a new state by where it comes from, and works it out only when it comes back.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int


@runtime_checkable
class Scorer(Protocol):
    """Scores prefixes token by token. States are opaque integers that are good until the next `start`."""

    def start(self) -> int:
        """The state of the empty prefix. Begins a search: states of an earlier one are void."""
        ...

    def extend(
        self, states: Int[np.ndarray, "..."], tokens: Int[np.ndarray, "..."]
    ) -> tuple[Int[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """States and scores (nats; -inf: forbidden) of prefixes extended by token ids; the two arrays broadcast.

        The blank is no token here and is never asked for.
        """
        ...

    def may_end(
        self, states: Int[np.ndarray, "..."], tokens: Int[np.ndarray, "..."], frames: Int[np.ndarray, "..."]
    ) -> Bool[np.ndarray, "..."]:
        """Whether prefixes extended by token ids can come to a legal end within so many more frames.

        The three arrays broadcast. Here a token may be the blank: the prefix as it is, behind a blank. Only what is
        sure to fail may be False; a beam full of such prefixes would have nothing to say in the end.
        """
        ...

    def finish(self, states: Int[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """What the end of the utterance adds (nats); -inf where it may not end."""
        ...


def always(*arrays: np.ndarray) -> np.ndarray:
    """True in the shape to which the arrays broadcast: `may_end` of a scorer that lets a prefix end anywhere."""
    return np.ones(np.broadcast_shapes(*(array.shape for array in arrays)), bool)


# Token ids are below 2 ** 20.
TOKEN_BITS = 20


class States:
    """Interned states (hashable keys) of a scorer.

    `children(ids_N, tokens_N)` gives the keys that extending leads to; it is asked once for each (state, token) that is
    used. Ids count up from 0, the key `first`.
    """

    def __init__(self, first: Hashable, children: Callable[[np.ndarray, np.ndarray], Sequence[Hashable]]):
        self.keys: list[Hashable] = [first]
        self._children = children
        self._id_of_key: dict[Hashable, int] = {first: 0}
        self._id_of_code: dict[int, int] = {}

    def codes(self, ids: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Names of the states one token on: negative numbers, which `resolve` turns into ids."""
        return ~((ids.astype(np.int64) << TOKEN_BITS) | tokens)

    def resolve(self, states: np.ndarray) -> np.ndarray:
        """Ids of states that are ids already or names given by `codes`."""
        is_code = states < 0
        if not is_code.any():
            return states
        codes_N, inverse = np.unique(states[is_code], return_inverse=True)
        new_N = np.array([code for code in codes_N.tolist() if code not in self._id_of_code], np.int64)
        if len(new_N):
            ids_N, tokens_N = ~new_N >> TOKEN_BITS, ~new_N & ((1 << TOKEN_BITS) - 1)
            for code, key in zip(new_N.tolist(), self._children(ids_N, tokens_N), strict=True):
                self._id_of_code[code] = self._intern(key)
        ids = states.copy()
        ids[is_code] = np.array([self._id_of_code[code] for code in codes_N.tolist()])[inverse]
        return ids

    def _intern(self, key: Hashable) -> int:
        known = self._id_of_key.setdefault(key, len(self.keys))
        if known == len(self.keys):
            self.keys.append(key)
        return known


class Sum:
    """Scorers side by side: what one forbids is forbidden, and scores add up."""

    def __init__(self, scorers: Sequence[Scorer]):
        self._scorers = tuple(scorers)
        self.start()

    def start(self) -> int:
        first = tuple(scorer.start() for scorer in self._scorers)
        self._states = States(first, self._children)
        self._parts_SX = np.array([first], np.int64).reshape(1, -1)
        return 0

    def _children(self, ids_N: np.ndarray, tokens_N: np.ndarray) -> list[Hashable]:
        parts_NX = self._parts_SX[ids_N]
        after = [scorer.extend(parts_NX[:, x], tokens_N)[0].tolist() for x, scorer in enumerate(self._scorers)]
        return list(zip(*after, strict=True)) or [()] * len(ids_N)

    def _resolve(self, states: np.ndarray) -> np.ndarray:
        ids = self._states.resolve(states)
        new = self._states.keys[len(self._parts_SX) :]
        if new:
            self._parts_SX = np.concatenate([self._parts_SX, np.array(new, np.int64)])
        return ids

    def extend(self, states: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids = self._resolve(states)
        total = np.zeros(np.broadcast_shapes(ids.shape, tokens.shape))
        for x, scorer in enumerate(self._scorers):
            total += scorer.extend(self._parts_SX[ids, x], tokens)[1]
        return self._states.codes(ids, tokens), total

    def may_end(self, states: np.ndarray, tokens: np.ndarray, frames: np.ndarray) -> np.ndarray:
        ids = self._resolve(states)
        every = always(ids, tokens, frames)
        for x, scorer in enumerate(self._scorers):
            every &= scorer.may_end(self._parts_SX[ids, x], tokens, frames)
        return every

    def finish(self, states: np.ndarray) -> np.ndarray:
        ids = self._resolve(states)
        total = np.zeros(ids.shape)
        for x, scorer in enumerate(self._scorers):
            total += scorer.finish(self._parts_SX[ids, x])
        return total
