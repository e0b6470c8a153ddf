"""Token prefixes as nodes of a growing tree, so that equal prefixes are equal numbers: exactly, not by hash."""

import numpy as np

ROOT = 0
# Equal to no node and to no parent of one: a beam slot without a prefix, its parent, and the parent of the root.
NOBODY, NO_PARENT, ABOVE_ROOT = -1, -2, -3


class Prefixes:
    """Interns (parent node, token). One tree may serve all clips of a batch."""

    def __init__(self) -> None:
        self._child: dict[tuple[int, int], int] = {}
        self._edges: list[tuple[int, int]] = [(ABOVE_ROOT, -1)]

    def extend(self, parents_N: np.ndarray, tokens_N: np.ndarray) -> list[int]:
        """The node of every prefix extended by its token."""
        nodes = []
        for edge in zip(parents_N.tolist(), tokens_N.tolist(), strict=True):
            node = self._child.get(edge)
            if node is None:
                node = self._child[edge] = len(self._edges)
                self._edges.append(edge)
            nodes.append(node)
        return nodes

    def spell(self, node: int) -> tuple[int, ...]:
        """Token ids from the root to a node."""
        tokens = []
        while node != ROOT:
            node, token = self._edges[node]
            tokens.append(token)
        return tuple(reversed(tokens))
