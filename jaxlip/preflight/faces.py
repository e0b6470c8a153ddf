"""Whether landmarks of faces are what the model takes them for: detected, moving, in shape, in the graph's order."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxlip.data.face import FaceData
from jaxlip.data.feature_check import check_features
from jaxlip.face.mean_face import mean_face
from jaxlip.preflight.check import Check, failed, passed, some, warned
from jaxlip.preflight.probe import Probe

UPPER_LIP, LOWER_LIP = 13, 14
"""FaceMesh ids of the inner lips' middles."""
SAME = 1 - 1e-6
"""Correlation of two slots that are one. On real faces the opening of the lips and their inner height reach .9999."""
BOXED = 1e-4
"""Spread of a face's width over a clip, in widths, below which every frame was stretched to the same box."""
SLUGGISH = 0.9
"""Correlation of successive changes of the lips' opening above which landmarks are smoothed away."""
FAR = 0.6
"""Mean length of a graph edge, in mean distances of two nodes, above which neighbours are not neighbours."""


def check_faces(probe: Probe) -> Iterator[Check]:
    if not isinstance(probe.experiment.data, FaceData) or not hasattr(probe.batch, "landmarks_BTVC"):
        return
    yield _detected(probe)
    yield from _features(probe, probe.experiment.data)
    yield _shape(probe)
    yield _motion(probe)
    yield _topology(probe)
    yield _edges(probe)


def _detected(probe: Probe) -> Check:
    blind = []
    for part in probe.corpus.splits.values():
        for bucket, names in zip(part.buckets, part.names, strict=True):
            seen_BT = np.asarray(bucket.detected_BT & bucket.frames_BT)
            blind += [name for name, seen_T in zip(names, seen_BT, strict=True) if not seen_T.any()]
    if blind:
        advice = "their landmarks are made up between neighbours; raise data.min_detection"
        return warned(
            "faces.detected", f"{len(blind)} examples without a single frame with a face: {some(blind)}", advice
        )
    return passed("faces.detected", "every example has a frame with a face")


def _features(probe: Probe, data: FaceData) -> Iterator[Check]:
    batch = probe.batch
    keys = ("landmarks_BTVC", "frames_BT", "speech_BT")
    cuts = [{key: np.asarray(getattr(batch, key))[b] for key in keys} for b in range(len(batch.frames_BT))]
    found = check_features(cuts, data)
    # Where all frames have a face, a sentence's mask channel has nothing to say.
    told = bool((np.asarray(batch.speech_BT) != np.asarray(batch.frames_BT)).any())
    dead = [slot.name for slot in found.slots if slot.dead and (told or slot.name != "speech")]
    if dead:
        saw = f"{len(dead)} of {len(found.slots)} feature slots never vary: {some(dead)}"
        yield failed("faces.features", saw, "they are constants to the model: wrong ids, or a feature not computed")
    else:
        yield passed("faces.features", f"all {len(found.slots)} feature slots vary within clips")
    twins = [f"{t.first} = {t.second}" for t in found.twins if not t.defined and abs(t.correlation) > SAME]
    if twins:
        yield warned("faces.twins", f"feature slots that say the same: {some(twins)}", "one of each is wrong or idle")
    else:
        yield passed("faces.twins", "no two feature slots say the same")
    if found.still_points or found.same_points:
        points = [str(p) for p in found.still_points] + [f"{a} = {b}" for a, b in found.same_points]
        saw = f"landmarks that never move or always coincide (FaceMesh ids): {some(points)}"
        yield failed("faces.landmarks", saw, "ids are taken for rows, or the extraction is damaged")
    else:
        yield passed("faces.landmarks", "every landmark moves on its own")


def _shape(probe: Probe) -> Check:
    """Min-max scaling of every frame gives every frame the same width and height."""
    landmarks_BTVC, frames_BT = np.asarray(probe.batch.landmarks_BTVC), np.asarray(probe.batch.frames_BT)
    size_BTC = np.ptp(landmarks_BTVC[..., :2], axis=2)
    spread = min(
        float((size_TC[real].std(axis=0) / np.maximum(size_TC[real].mean(axis=0), 1e-12)).max())
        for size_TC, real in zip(size_BTC, frames_BT, strict=True)
        if real.sum() > 1
    )
    saw = f"width and height of a face vary by {spread:.1e} of themselves over a clip, at the least"
    if spread < BOXED:
        advice = "every frame is stretched to one box, so that aspect and motion are gone: --data.normalize clip"
        return warned("faces.shape", saw, advice)
    return passed("faces.shape", saw)


def _motion(probe: Probe) -> Check:
    row = {id_: v for v, id_ in enumerate(probe.corpus.spec.input.ids)}  # type: ignore[attr-defined]
    lips_BTVC = np.asarray(probe.batch.landmarks_BTVC)[:, :, [row[UPPER_LIP], row[LOWER_LIP]]]
    opening_BT = np.linalg.norm(lips_BTVC[:, :, 0] - lips_BTVC[:, :, 1], axis=-1)
    before, after = [], []
    for opening_T, real in zip(opening_BT, np.asarray(probe.batch.frames_BT), strict=True):
        change = np.diff(opening_T[real])
        before.append(change[:-1])
        after.append(change[1:])
    first, second = np.concatenate(before), np.concatenate(after)
    still = min(first.std(), second.std()) < 1e-9
    r = 0.0 if still else float(np.corrcoef(first, second)[0, 1])
    saw = f"successive changes of the lips' opening correlate with {r:.2f}"
    if r > SLUGGISH:
        return warned(
            "faces.motion", saw, "smoothed too hard, or twice: quick lips (p, b, m) are gone; see data.smooth"
        )
    return passed("faces.motion", saw)


def _topology(probe: Probe) -> Check:
    spec: Any = probe.corpus.spec
    stored = np.asarray(probe.batch.landmarks_BTVC).shape[2]
    graph, known = spec.topology.ids, spec.input.ids
    if stored != len(known) or tuple(known[: len(graph)]) != tuple(graph):
        saw = f"{stored} landmarks are stored, the input names {len(known)}, the graph {len(graph)}, in other orders"
        return failed("faces.topology", saw, "preset of the data and topology of the model are not the same")
    return passed("faces.topology", f"the {len(graph)} graph nodes are the first of {stored} stored landmarks")


def _edges(probe: Probe) -> Check:
    topology = probe.corpus.spec.topology  # type: ignore[attr-defined]
    nodes_VC = mean_face()[list(topology.ids)]
    apart_VV = np.linalg.norm(nodes_VC[:, None] - nodes_VC[None], axis=-1)
    length = float(
        np.mean([apart_VV[v, w] for v, w in topology.edges]) / apart_VV[np.triu_indices_from(apart_VV, 1)].mean()
    )
    saw = f"an edge of the graph is {length:.2f} times as long as two nodes lie apart, in the mean"
    if length > FAR:
        return failed("faces.edges", saw, "neighbours in the list of ids are not neighbours on the face")
    return passed("faces.edges", saw)
