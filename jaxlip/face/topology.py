"""The face graph: built once in NumPy, the same object for data, model and checkpoint."""

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from jaxlip.errors import UserError
from jaxlip.face.mean_face import mean_face
from jaxlip.face.presets import LIPS_INNER, LIPS_OUTER, is_mirror_closed, mirror_ids, preset_ids

if TYPE_CHECKING:
    import jraph

_JAW = (152, 377, 400, 378, 379, 365, 397, 288, 435, 361, 323, 454, 356, 389, 152)


def _loop(ids: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(zip(ids, ids[1:] + ids[:1], strict=True))


# Undirected pairs of FaceMesh ids; those with an end outside the preset fall away.
ANATOMICAL_PAIRS: tuple[tuple[int, int], ...] = (
    *_loop(LIPS_OUTER),
    *_loop(LIPS_INNER),
    *((61, 78), (291, 308), (13, 0), (14, 152)),  # outer to inner lip
    *((61, 13), (61, 14), (291, 13), (291, 14), (0, 13), (0, 14)),  # across the mouth
    *zip(_JAW, _JAW[1:], strict=False),
    *((152, 14), (152, 17), (152, 0)),  # jaw to lip
    *((50, 61), (50, 0), (101, 61), (36, 37), (280, 291), (330, 291), (266, 267), (280, 0)),  # cheeks
    *((0, 1), (1, 4), (4, 0)),  # nose
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """Nodes and undirected edges of a landmark graph."""

    preset: str
    ids: tuple[int, ...]
    """FaceMesh id of each node [V]."""
    edges: tuple[tuple[int, int], ...]
    """Node rows (v, w) with v < w, each pair once, sorted [E]."""

    def __post_init__(self):
        if unreached := len(self.ids) - len(_component(0, self.neighbours)):
            raise ValueError(f"the graph of preset {self.preset} is not connected: {unreached} nodes are out of reach.")

    @functools.cached_property
    def neighbours(self) -> list[set[int]]:
        sets: list[set[int]] = [set() for _ in self.ids]
        for v, w in self.edges:
            sets[v].add(w)
            sets[w].add(v)
        return sets

    @functools.cached_property
    def propagation_VV(self) -> np.ndarray:
        """f32 [V, V]: D^-1/2 (A + I) D^-1/2 (Kipf and Welling, ICLR 2017, eq. 2)."""
        adjacency_VV = np.eye(len(self.ids))
        for v, w in self.edges:
            adjacency_VV[v, w] = adjacency_VV[w, v] = 1
        degree_V = adjacency_VV.sum(axis=1)
        return (adjacency_VV / np.sqrt(degree_V[:, None] * degree_V[None, :])).astype(np.float32)

    def to_jraph(self, nodes_VD=None) -> "jraph.GraphsTuple":
        """The graph for one frame as a jraph.GraphsTuple: each undirected edge in both directions, no self-loops."""
        import jax.numpy as jnp
        import jraph

        edges_E2 = np.array(self.edges, np.int32).reshape(-1, 2)
        return jraph.GraphsTuple(
            nodes=nodes_VD,
            edges=None,
            globals=None,
            senders=jnp.asarray(np.concatenate([edges_E2[:, 0], edges_E2[:, 1]])),
            receivers=jnp.asarray(np.concatenate([edges_E2[:, 1], edges_E2[:, 0]])),
            n_node=jnp.array([len(self.ids)]),
            n_edge=jnp.array([2 * len(self.edges)]),
        )


def _component(start: int, neighbours: list[set[int]]) -> set[int]:
    reached, frontier = {start}, [start]
    while frontier:
        new = neighbours[frontier.pop()] - reached
        reached |= new
        frontier.extend(new)
    return reached


def build_topology(preset: str, *, nearest: int = 5) -> Topology:
    """Anatomical pairs inside the preset, plus edges to each node's `nearest` neighbours on the mean face.

    Where the preset is closed under mirroring, so are the edges. Raises UserError for an unknown preset, and where
    `nearest` is too small to reach every node.
    """
    ids = preset_ids(preset)
    row = {id_: v for v, id_ in enumerate(ids)}
    pairs = {(a, b) for a, b in ANATOMICAL_PAIRS if a in row and b in row}
    points_VC = mean_face()[list(ids)].astype(np.float64)
    distance_VV = np.linalg.norm(points_VC[:, None] - points_VC[None], axis=-1)
    np.fill_diagonal(distance_VV, np.inf)
    for v, order_V in enumerate(distance_VV.argsort(axis=1, kind="stable")):
        pairs |= {(ids[v], ids[int(w)]) for w in order_V[:nearest]}
    if is_mirror_closed(ids):
        mirror = mirror_ids()
        pairs |= {(mirror[a], mirror[b]) for a, b in pairs}
    edges = sorted({(min(row[a], row[b]), max(row[a], row[b])) for a, b in pairs})
    try:
        return Topology(preset=preset, ids=ids, edges=tuple(edges))
    except ValueError as error:
        raise UserError(f"nearest={nearest} is too small: {error}") from None
