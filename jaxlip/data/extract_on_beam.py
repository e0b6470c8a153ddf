"""Extraction as an Apache Beam transform: videos to landmark files, one after another on every worker.

Videos, output folder and model lie on a file system that all workers see. Files that are there already from the same
video are left alone, so that a second run does what is missing.
"""

import json
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam  # pyright: ignore[reportMissingImports]
from apache_beam.io import WriteToText  # pyright: ignore[reportMissingImports]

from jaxlip.data.clips import DamagedClip
from jaxlip.data.extract import Extraction, Extractor
from jaxlip.data.find_videos import Source, find_videos
from jaxlip.data.landmarker import find_model
from jaxlip.data.on_beam import options_of

Extracted = tuple[str, dict[str, Any] | str]
"""Name of a video with its report, or why nothing could be made of it."""


class ExtractVideos(beam.PTransform):
    """A collection of `Source`s -> one `.npz` each below `out`, and a collection of `Extracted`."""

    def __init__(self, out: pathlib.Path, options: Extraction, model: pathlib.Path):
        super().__init__()
        self.out, self.options, self.model = out, options, model

    def expand(self, sources: Any) -> Any:
        return sources | "Spread" >> beam.Reshuffle() | beam.ParDo(_Extract(self.out, self.options, self.model))


class _Extract(beam.DoFn):
    def __init__(self, out: pathlib.Path, options: Extraction, model: pathlib.Path):
        self.out, self.options, self.model = out, options, model

    def setup(self) -> None:
        self.extractor = Extractor(self.options, self.model).__enter__()

    def process(self, source: Source) -> Iterator[Extracted]:
        try:
            yield source.name, self.extractor.extract(source.path, source.target(self.out))
        except (DamagedClip, OSError) as error:
            yield source.name, str(error)

    def teardown(self) -> None:
        self.extractor.__exit__()


def extract_on_beam(videos: Sequence[str], out: pathlib.Path, flags: Sequence[str]) -> list[Extracted]:
    """Extracts files, folders or globs to landmark files below `out`, on the runner of `flags`; sorted by name.

    Raises UserError for wrong flags, no videos, or no model.
    """
    runner, options = options_of(flags)
    found, model = find_videos(videos, out), find_model(None)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".beam-", dir=out) as folder:
        reports = pathlib.Path(folder).absolute() / "reports"
        with beam.Pipeline(runner=runner, options=options) as pipeline:
            _ = (
                pipeline
                | beam.Create(found.sources)
                | ExtractVideos(out.absolute(), Extraction(), model.absolute())
                | beam.Map(json.dumps)
                | WriteToText(str(reports), num_shards=1, shard_name_template="")
            )
        lines = reports.read_text("utf-8").splitlines()
    return sorted([*found.failures, *(tuple(json.loads(line)) for line in lines)], key=lambda pair: pair[0])
