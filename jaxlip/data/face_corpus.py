"""A face source -> a corpus: every clip read and prepared, cut into examples, bucketed, its features standardised."""

from collections.abc import Callable

from jaxlip.config import Component
from jaxlip.data.assemble import StackLabels
from jaxlip.data.batches import Corpus
from jaxlip.data.face import FaceData, Rejections, face_clips, face_input, fit_input
from jaxlip.data.gather import ExamplesOf, gather
from jaxlip.data.sources import SOURCES
from jaxlip.face.features import FEATURE_SETS, FaceInput, Standardizer, stored_ids
from jaxlip.face.topology import Topology, build_topology

SpecOf = Callable[[Topology, FaceInput], Component]


def shape_only_spec(config: FaceData, spec_of: SpecOf) -> Component:
    """The spec of these data without reading them: right in every size, with slots left unstandardised."""
    chosen = FEATURE_SETS[config.features]
    topology = build_topology(config.preset, nearest=config.nearest)
    node, frame = len(chosen.node_slots), len(chosen.frame_slots)
    standardizer = Standardizer(
        node_mean=(0.0,) * node, node_std=(1.0,) * node, frame_mean=(0.0,) * frame, frame_std=(1.0,) * frame
    )
    ids, nodes = stored_ids(config.preset), len(topology.ids)
    return spec_of(topology, face_input(config, ids, nodes, standardizer))


def load_corpus(
    config: FaceData,
    examples_of: ExamplesOf,
    stack_labels: StackLabels,
    spec_of: SpecOf,
) -> Corpus:
    """Reads a source into the examples that `examples_of` makes of each clip.

    Raises UserError where nothing is left to train or validate on.
    """
    rejections = Rejections()
    clips = face_clips(config, rejections)
    splits, counts, notes = gather(config, clips, rejections, examples_of, stack_labels, source=config.source)
    topology = build_topology(config.preset, nearest=config.nearest)
    face_input, dead = fit_input(config, topology, splits["train"])
    if dead:
        notes.append(f"feature slots that never vary in the training split: {', '.join(dead)}")
    notes = SOURCES[config.source].notes(config) + notes
    return Corpus(splits=splits, spec=spec_of(topology, face_input), counts=counts, notes=tuple(notes))
