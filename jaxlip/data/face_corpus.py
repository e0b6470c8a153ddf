"""A face source -> a corpus: every clip read and prepared, cut into examples, bucketed, its features standardised."""

from collections.abc import Callable, Iterator

from jaxlip.config import Component
from jaxlip.data.assemble import Assembler, StackLabels, resident_bytes
from jaxlip.data.batches import Corpus
from jaxlip.data.face import SPLITS, Example, FaceClip, FaceData, Rejections, face_clips, fit_input
from jaxlip.data.sources import SOURCES
from jaxlip.errors import UserError
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
    return spec_of(topology, FaceInput(features=config.features, ids=ids, nodes=nodes, standardizer=standardizer))


def load_corpus(
    config: FaceData,
    examples_of: Callable[[FaceClip, Rejections], Iterator[Example]],
    stack_labels: StackLabels,
    spec_of: SpecOf,
) -> Corpus:
    """Reads a source into the examples that `examples_of` makes of each clip.

    Raises UserError where nothing is left to train or validate on.
    """
    rejections = Rejections()
    assembler = Assembler(config.buckets, stack_labels, limit=resident_bytes(config))
    clips = 0
    for ref, clip in face_clips(config, rejections):
        clips += 1
        if clip.split not in SPLITS:
            rejections.add(clip.name, f"split {clip.split!r} is none of {', '.join(SPLITS)}")
            continue
        for example in examples_of(clip, rejections):
            assembler.add(clip.split, example, ref)
    for split in ("train", "val"):
        if not assembler.count(split):
            why = "; ".join(rejections.notes()) or "the source has none"
            raise UserError(f"data.source={config.source}: no example in split {split}: {why}.")
    splits = {split: assembler.split(split, config) for split in SPLITS if assembler.count(split)}
    topology = build_topology(config.preset, nearest=config.nearest)
    face_input, dead = fit_input(config, topology, splits["train"])
    notes = SOURCES[config.source].notes(config) + rejections.notes()
    if assembler.streamed:
        notes.append(f"{assembler.bytes / 2**30:.2f} GiB of landmarks are streamed from disk (data.resident_gib)")
    if dead:
        notes.append(f"feature slots that never vary in the training split: {', '.join(dead)}")
    return Corpus(
        splits=splits,
        spec=spec_of(topology, face_input),
        counts={
            "clips": clips,
            "examples": {split: len(rows) for split, rows in splits.items()},
            "left_out": rejections.counts(),
        },
        notes=tuple(notes),
    )
