"""Prepared clips of any source -> splits of examples, with the count of everything that was read or left out."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from jaxlip.data.assemble import Assembler, ClipData, StackLabels, resident_bytes
from jaxlip.data.batches import FaceBatch, Split
from jaxlip.data.clips import ClipRef
from jaxlip.data.face import SPLITS, Example, FaceClip, Rejections
from jaxlip.errors import UserError

ExamplesOf = Callable[[FaceClip, Rejections], Iterator[Example]]


class Gathered(NamedTuple):
    """`counts` and `notes` as in Corpus."""

    splits: dict[str, Split]
    counts: dict[str, Any]
    notes: list[str]


def gather(
    config: ClipData,
    clips: Iterable[tuple[ClipRef, FaceClip]],
    rejections: Rejections,
    examples_of: ExamplesOf,
    stack_labels: StackLabels,
    *,
    source: str,
    batch_class: type[FaceBatch] = FaceBatch,
) -> Gathered:
    """The examples that `examples_of` makes of each clip, split by split, in length buckets.

    Raises UserError where nothing is left to train or validate on.
    """
    assembler = Assembler(config.buckets, stack_labels, limit=resident_bytes(config), batch_class=batch_class)
    count = 0
    for ref, clip in clips:
        count += 1
        if clip.split not in SPLITS:
            rejections.add(clip.name, f"split {clip.split!r} is none of {', '.join(SPLITS)}")
            continue
        for example in examples_of(clip, rejections):
            assembler.add(clip.split, example, ref)
    for split in ("train", "val"):
        if not assembler.count(split):
            why = "; ".join(rejections.notes()) or "the source has none"
            raise UserError(f"data.source={source}: no example in split {split}: {why}.")
    splits = {split: assembler.split(split, config) for split in SPLITS if assembler.count(split)}
    notes = rejections.notes()
    if assembler.streamed:
        notes.append(f"{assembler.bytes / 2**30:.2f} GiB of landmarks are streamed from disk (data.resident_gib)")
    counts = {
        "clips": count,
        "examples": {split: len(rows) for split, rows in splits.items()},
        "left_out": rejections.counts(),
    }
    return Gathered(splits, counts, notes)
