"""Prepares a corpus for training: quantised landmarks in ArrayRecord shards, and a manifest that says what they are.

Reads the landmark files that `jaxlip extract` writes, and the transcripts of a source: grid, lrw (also IDLRW), lrs
(LRS2 and LRS3), manifest (your own data, one CSV file) or visemes (built in). Train from the shards with
`--data.source prepared --data.root DIR`.

With --beam, the workers of a runner read landmark files and write shards: everything must lie where all of them see it.
"""

import argparse
import importlib.util
import pathlib
from collections.abc import Sequence

from jaxlip.cli.options import Parser
from jaxlip.data.face import FaceData
from jaxlip.data.preparing import Preparation, Write, prepare, write_here
from jaxlip.data.sources import SOURCES
from jaxlip.data.store import read_manifest
from jaxlip.data.survey import ALLOWED, describe_survey
from jaxlip.errors import UserError
from jaxlip.face.presets import PRESETS

EVERY = 10_000
"""Clips between two lines that say how far it is."""


def parser() -> Parser:
    parser = Parser("jaxlip prepare", __doc__)
    sources = [name for name in SOURCES if name != "prepared"]
    parser.add_argument("--source", required=True, choices=sources, help="what kind of corpus it is")
    parser.add_argument("--root", help="its folder (manifest: the CSV file)")
    parser.add_argument(
        "--landmarks", help="folder of the landmark files, where they do not lie beside the transcripts"
    )
    parser.add_argument("--splits", help="grid: JSON file of the splits")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR", help="folder to write")
    parser.add_argument("--preset", default=FaceData().preset, choices=list(PRESETS), help="landmarks to keep")
    parser.add_argument("--shards", type=int, metavar="N", help="files a split; default: by size")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that read clips")
    parser.add_argument("--speaker-disjoint", action="store_true", help="claim that no speaker is in two splits")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=list(ALLOWED),
        help="write shards in spite of "
        + "; or of ".join(f"{what} ({name})" for name, what in ALLOWED.items())
        + ". The manifest and every training say so.",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what was prepared before at --out")
    parser.add_argument(
        "--videos",
        nargs="+",
        metavar="SRC",
        help="with --beam: first extract these videos, folders or globs to --landmarks (else `jaxlip extract` does)",
    )
    parser.add_argument(
        "--beam",
        nargs=argparse.REMAINDER,
        metavar="OPTION",
        help="run on Apache Beam, with all that follows as its own options, such as --runner=FlinkRunner "
        "--flink_master=HOST:8081 (default: DirectRunner, here)",
    )
    return parser


def run(arguments: Sequence[str]) -> None:
    options = parser().parse_args(arguments)
    for name in ("shards", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value} must be 1 or more.")
    if options.out.is_dir() and any(options.out.iterdir()) and not options.overwrite:
        read_manifest(options.out)
        raise UserError(f"--out {options.out} holds prepared data; --overwrite replaces them.")
    data = FaceData(
        source=options.source,
        root=options.root,
        splits=options.splits,
        landmarks=options.landmarks,
        preset=options.preset,
    )
    preparation = Preparation(
        data=data,
        out=options.out,
        shards=options.shards,
        workers=options.workers,
        speaker_disjoint=options.speaker_disjoint,
        allowed=tuple(sorted(set(options.allow))),
    )
    write = write_here if options.beam is None else _on_beam(options)
    if options.videos:
        _extract(options)
    print(f"preparing {options.source} {options.root or ''}", flush=True)
    survey, manifest = prepare(preparation, _say, write=write)
    for line in (*describe_survey(survey), *(f"note: {note}" for note in manifest["notes"])):
        print(line)
    print(f"fingerprint {manifest['fingerprint']}\nwrote {options.out}")


def _on_beam(options: argparse.Namespace) -> Write:
    if options.workers != 1:
        raise UserError(
            "--workers is for a preparation without --beam; tell the runner, as in "
            "--beam --direct_num_workers=2 --direct_running_mode=multi_processing."
        )
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError("--beam needs apache-beam, which is absent; run `pip install 'jaxlip[beam]'`.")
    from jaxlip.data.on_beam import WriteOnBeam

    return WriteOnBeam(tuple(options.beam))


def _extract(options: argparse.Namespace) -> None:
    """Makes the landmark files that are missing. Raises UserError."""
    if options.beam is None or options.landmarks is None:
        raise UserError("--videos needs --landmarks DIR, to write to, and --beam; without it, run `jaxlip extract`.")
    for package in ("av", "mediapipe"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"--videos needs the package {package}, which is absent; run `pip install 'jaxlip[video]'`."
            )
    from jaxlip.data.extract_on_beam import extract_on_beam

    extracted = extract_on_beam(options.videos, pathlib.Path(options.landmarks), options.beam)
    failures = [(name, reason) for name, reason in extracted if isinstance(reason, str)]
    for name, reason in failures:
        print(f"failed: {name}: {reason}")
    print(f"extracted {len(extracted) - len(failures):,} of {len(extracted):,} videos", flush=True)


def _say(clips: int) -> None:
    if clips % EVERY == 0:
        print(f"{clips:,} clips", flush=True)
