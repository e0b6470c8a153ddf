"""The landmark graph against brute force over ids and distances."""

import numpy as np
import pytest

from jaxlip.errors import UserError
from jaxlip.face.mean_face import mean_face
from jaxlip.face.presets import LIPS_INNER, LIPS_OUTER, PRESETS, mirror_ids, mirror_map, preset_ids
from jaxlip.face.topology import ANATOMICAL_PAIRS, Topology, build_topology

EVERY = pytest.mark.parametrize("preset", PRESETS)


def linked(topology: Topology) -> set[frozenset[int]]:
    """Edges as unordered pairs of FaceMesh ids."""
    return {frozenset((topology.ids[v], topology.ids[w])) for v, w in topology.edges}


def by_distance(id_: int, ids: tuple[int, ...]) -> list[tuple[float, int]]:
    """(distance on the mean face, id) of every other id, nearest first."""
    face_VC = mean_face().astype(np.float64)
    return sorted((float(np.sqrt(((face_VC[id_] - face_VC[i]) ** 2).sum())), i) for i in ids if i != id_)


@EVERY
def test_edges_are_unique_and_ordered(preset):
    topology = build_topology(preset)
    assert topology.ids == preset_ids(preset)
    assert all(0 <= v < w < len(topology.ids) for v, w in topology.edges)
    assert list(topology.edges) == sorted(set(topology.edges))


@EVERY
def test_every_node_is_reached(preset):
    topology = build_topology(preset)
    step_VV = np.eye(len(topology.ids))
    for v, w in topology.edges:
        step_VV[v, w] = step_VV[w, v] = 1
    assert (np.linalg.matrix_power(step_VV, len(topology.ids)) > 0).all()


def test_a_graph_in_two_parts_is_refused():
    with pytest.raises(ValueError, match="not connected: 2 nodes"):
        Topology(preset="lips40", ids=(0, 13, 14, 17), edges=((0, 1), (2, 3)))


def test_too_few_neighbours_are_refused():
    with pytest.raises(UserError, match="nearest=1 is too small.*anatomical88"):
        build_topology("anatomical88", nearest=1)


@EVERY
def test_propagation_is_the_symmetric_normalisation(preset):
    topology = build_topology(preset)
    size = len(topology.ids)
    adjacency_VV = np.zeros((size, size))
    for v in range(size):
        for w in range(size):
            adjacency_VV[v, w] = v == w or (min(v, w), max(v, w)) in topology.edges
    root_VV = np.diag(adjacency_VV.sum(axis=1) ** -0.5)
    np.testing.assert_allclose(topology.propagation_VV, root_VV @ adjacency_VV @ root_VV, atol=1e-7)
    np.testing.assert_array_equal(topology.propagation_VV, topology.propagation_VV.T)


@EVERY
def test_anatomical_pairs_inside_the_preset_are_edges(preset):
    topology = build_topology(preset)
    inside = {frozenset(pair) for pair in ANATOMICAL_PAIRS if set(pair) <= set(topology.ids)}
    assert inside <= linked(topology)
    assert frozenset((61, 78)) in inside and frozenset((0, 13)) in inside


def test_anatomical_pairs_hold_the_loops_and_the_named_links():
    pairs = {frozenset(pair) for pair in ANATOMICAL_PAIRS}
    for loop in (LIPS_OUTER, LIPS_INNER):
        assert {frozenset((loop[i - 1], loop[i])) for i in range(len(loop))} <= pairs
    for pair in ((61, 78), (291, 308), (13, 0), (14, 152), (152, 377), (389, 152), (152, 17), (280, 0), (4, 0)):
        assert frozenset(pair) in pairs


@EVERY
def test_each_node_is_linked_to_its_five_nearest_on_the_mean_face(preset):
    topology = build_topology(preset)
    edges = linked(topology)
    for id_ in topology.ids:
        order = by_distance(id_, topology.ids)
        fifth = order[4][0]
        # On a symmetric face the fifth may be one of a pair at the same distance: either will do.
        near = [i for distance, i in order if distance <= fifth + 1e-6]
        assert sum(frozenset((id_, i)) in edges for i in near) >= 5
        assert all(frozenset((id_, i)) in edges for distance, i in order if distance < fifth - 1e-6)


@EVERY
def test_no_edge_is_there_without_a_reason(preset):
    topology, mirror = build_topology(preset), mirror_ids()
    reasons = {frozenset(pair) for pair in ANATOMICAL_PAIRS}
    for id_ in topology.ids:
        order = by_distance(id_, topology.ids)
        reasons |= {frozenset((id_, i)) for distance, i in order if distance <= order[4][0] + 1e-6}
    if preset in ("lips40", "symmetric88"):
        reasons |= {frozenset(mirror[i] for i in pair) for pair in reasons}
    assert linked(topology) <= reasons


def test_neighbours_in_the_list_of_ids_are_not_neighbours_on_the_face():
    topology = build_topology("anatomical88")
    far = [
        pair for pair in zip(topology.ids, topology.ids[1:], strict=False) if frozenset(pair) not in linked(topology)
    ]
    assert (20, 36) in far and (454, 435) not in far and (206, 207) not in far


@pytest.mark.parametrize("preset", ["symmetric88", "lips40"])
def test_edges_mirror_with_the_nodes(preset):
    topology = build_topology(preset)
    rows = mirror_map(topology.ids)
    flipped = {tuple(sorted((rows[v], rows[w]))) for v, w in topology.edges}
    assert flipped == set(topology.edges)


def test_nearest_sets_how_many():
    few, many = (len(build_topology("symmetric88", nearest=k).edges) for k in (3, 8))
    assert few < len(build_topology("symmetric88").edges) < many


@EVERY
def test_jraph_round_trip(preset):
    topology = build_topology(preset)
    graph = topology.to_jraph(np.zeros((len(topology.ids), 2), np.float32))
    senders, receivers = np.asarray(graph.senders).tolist(), np.asarray(graph.receivers).tolist()
    arrows = set(zip(senders, receivers, strict=True))
    assert len(senders) == len(arrows) == 2 * len(topology.edges)
    assert {(v, w) for v, w in arrows if v < w} == set(topology.edges)
    assert {(w, v) for v, w in arrows} == arrows
    assert graph.n_node.tolist() == [len(topology.ids)] and graph.n_edge.tolist() == [len(senders)]
    assert graph.nodes.shape == (len(topology.ids), 2)
