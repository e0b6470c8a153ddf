"""Preparation as Apache Beam transforms, for corpora that outgrow one machine.

Every worker reads landmark files and writes shards itself: source and output lie on a file system that all of them see.
What the survey must know of a clip goes to text files in the output folder, and from there, in the order of the clips,
to the same survey as without Beam: records, checks, statistics and fingerprint are equal.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import pathlib
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam  # pyright: ignore[reportMissingImports]
from apache_beam.io import WriteToText  # pyright: ignore[reportMissingImports]
from apache_beam.options.pipeline_options import (  # pyright: ignore[reportMissingImports]
    PipelineOptions,
    StandardOptions,
)
from apache_beam.pvalue import TaggedOutput  # pyright: ignore[reportMissingImports]

from jaxlip.data.clips import ClipRef
from jaxlip.data.face import FaceData
from jaxlip.data.preparing import Preparation, Prepared, prepare_clip
from jaxlip.data.records import Entry
from jaxlip.data.store import write_shards
from jaxlip.errors import UserError

STRETCH = 1000
"""Clips a file of those that hand them to the workers."""
LOCAL = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""What DirectRunner falls back on; before that, it looks on the network for a program called Prism."""
NO_EXAMPLES = "total number of generated examples is 0 for split"
"""How TFDS complains of an empty split."""


def options_of(flags: Sequence[str]) -> tuple[Any, Any]:
    """A runner and its options, of flags as Beam documents them. Raises UserError for those that Beam refuses."""
    given, complaint = f"--beam {' '.join(flags)}", io.StringIO()
    if flags and not flags[0].startswith("--"):
        raise UserError(f"{given}: what follows --beam are options of Beam, which begin with --.")
    try:
        with contextlib.redirect_stderr(complaint):
            options = PipelineOptions(list(flags))
            local = options.view_as(StandardOptions).runner in (None, "DirectRunner")
            runner = beam.Pipeline(runner=LOCAL if local else None, options=options).runner
            unknown = options.get_all_options(retain_unknown_options=True).keys() - options.get_all_options().keys()
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"{given}: {' '.join(str(error).split())[:300]}") from None
    except SystemExit:
        raise UserError(f"{given}: {complaint.getvalue().splitlines()[-1].partition('error: ')[2]}.") from None
    # Other runners have options of their own, which Beam hands to them unread.
    if local and unknown:
        raise UserError(f"{given}: DirectRunner has no option {', '.join(sorted(unknown))}.")
    return runner, options


class PrepareSplit(beam.PTransform):
    """All clips of a split -> (name, record) pairs; what else is known of the clips is written to `lines`."""

    def __init__(self, data: FaceData, ids: tuple[int, ...], stretches: list[str], lines: str):
        super().__init__()
        self.data, self.ids, self.stretches, self.lines = data, ids, stretches, lines

    def expand(self, pipeline: Any) -> Any:
        read = (
            pipeline
            | "Stretches" >> beam.Create(self.stretches)
            | "Clips" >> beam.FlatMap(_numbered)
            | "Spread" >> beam.Reshuffle()
            | "Prepare" >> beam.ParDo(_PrepareClip(self.data, self.ids)).with_outputs("lines", main="records")
        )
        _ = read.lines | "Survey" >> WriteToText(self.lines)
        return read.records


class _PrepareClip(beam.DoFn):
    def __init__(self, data: FaceData, ids: tuple[int, ...]):
        self.data, self.ids = data, ids

    def process(self, numbered: tuple[int, ClipRef]) -> Iterator[Any]:
        number, ref = numbered
        item = prepare_clip(self.data, self.ids, number, ref)
        record, entry = item
        if isinstance(entry, Entry):
            yield entry.name, record
        yield TaggedOutput("lines", _to_line(number, item))


def _to_line(number: int, item: Prepared) -> str:
    record, entry = item
    known = {"entry": entry.to_json()} if isinstance(entry, Entry) else {"name": record, "reason": entry}
    return json.dumps({"number": number, **known})


def _from_line(line: str) -> tuple[int, Prepared]:
    known = json.loads(line)
    if "entry" in known:
        # The record went to the shards.
        return known["number"], ({}, Entry.from_json(known["entry"]))
    return known["number"], (known["name"], known["reason"])


def _numbered(path: str) -> list[tuple[int, ClipRef]]:
    return pickle.loads(pathlib.Path(path).read_bytes())


def _write_stretches(folder: pathlib.Path, split: str, refs: Sequence[ClipRef]) -> list[str]:
    """Hands clips to workers in files: a job's description, which goes to all of them, stays small."""
    numbered, paths = enumerate(refs), []
    while stretch := list(itertools.islice(numbered, STRETCH)):
        path = folder / f"{split}-{len(paths):06d}.pickle"
        path.write_bytes(pickle.dumps(stretch))
        paths.append(str(path))
    return paths


@dataclasses.dataclass(frozen=True)
class WriteOnBeam:
    """The `Write` of a Beam runner, chosen and set up by flags as Beam documents them."""

    flags: tuple[str, ...]

    def __call__(
        self,
        folder: pathlib.Path,
        preparation: Preparation,
        refs: Mapping[str, Sequence[ClipRef]],
        add: Callable[[Prepared], None],
    ) -> None:
        """Raises UserError for wrong flags, or where no clip of a split can be used."""
        runner, options = options_of(self.flags)
        if "train" not in refs:
            return
        work = folder.absolute() / "beam"
        work.mkdir()
        splits = {
            split: PrepareSplit(
                preparation.data, preparation.ids, _write_stretches(work, split, some), str(work / f"{split}-lines")
            )
            for split, some in refs.items()
        }
        try:
            write_shards(
                folder,
                splits,
                points=len(preparation.ids),
                shards=preparation.shards,
                beam_runner=runner,
                beam_options=options,
            )
        except Exception as error:
            _, found, rest = str(error).partition(NO_EXAMPLES)
            if not found:
                raise
            raise UserError(
                f"no clip of the {rest.split('.')[0].strip()} split can be used, and Beam writes no empty split; "
                "prepare without --beam to see why."
            ) from None
        for split in splits:
            lines = (line for path in work.glob(f"{split}-lines-*") for line in path.read_text("utf-8").splitlines())
            for _, item in sorted(map(_from_line, lines), key=lambda pair: pair[0]):
                add(item)
        shutil.rmtree(work)
