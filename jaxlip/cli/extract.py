"""Face videos to landmarks: one .npz a video, and a report of what was found and what was damaged.

SRC is a video, a folder (searched with its subfolders) or a glob in quotes; the folders
below it are kept under DIR. Run again, it does only what is missing or has changed.
No frame leaves this machine. DIR/report.html shows what came out, DIR/report.json has it all.

  jaxlip extract clip.mp4 --out landmarks
  jaxlip extract videos --out landmarks --workers 4
  jaxlip extract 'videos/**/*.mov' --out landmarks --fps 25 --face center
"""

import argparse
import contextlib
import dataclasses
import fcntl
import importlib.util
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from jaxlip.cli.options import Parser
from jaxlip.cli.progress import VideoProgress
from jaxlip.data.extract import Extraction
from jaxlip.data.find_videos import Found, find_videos
from jaxlip.data.landmarker import find_model
from jaxlip.data.workers import Job, run_jobs
from jaxlip.errors import UserError
from jaxlip.report.extraction import describe_clip, summarize, write_report


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip extract", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", nargs="+", metavar="SRC", help="video, folder or glob")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR", help="folder for the landmarks")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: one a core")
    parser.add_argument(
        "--fps",
        type=float,
        metavar="RATE",
        help="resample to RATE frames/s, by the nearest frame in time; default: keep",
    )
    parser.add_argument(
        "--face",
        default="largest",
        metavar="WHICH",
        help="of several faces: largest (default), center, or a number from 1, counted from the left",
    )
    parser.add_argument("--blendshapes", action="store_true", help="also write MediaPipe's 52 blendshapes a frame")
    parser.add_argument("--pose", action="store_true", help="also write MediaPipe's 4 x 4 head pose a frame")
    parser.add_argument(
        "--face-model",
        type=pathlib.Path,
        metavar="FILE",
        help="MediaPipe's face_landmarker.task; default: $JAXLIP_FACE_MODEL, else the cached one, else downloaded once",
    )
    options = parser.parse_args(arguments)
    extraction = Extraction(fps=options.fps, face=options.face, blendshapes=options.blendshapes, pose=options.pose)
    workers = options.workers if options.workers is not None else len(os.sched_getaffinity(0))
    if workers < 1:
        raise UserError(f"--workers {workers} is not 1 or more.")
    _require_extras()
    found = find_videos(options.src, options.out)
    model = find_model(options.face_model)
    with _locked(options.out):
        report = extract(found, options.out, extraction, model, min(workers, max(len(found.sources), 1)))
        paths = write_report(report, options.out)
    print(_closing(report))
    print("\n".join(f"wrote {path}" for path in paths))
    if report["failed"] == report["clips"]:
        raise UserError(f"none of the {report['clips']} videos could be extracted; the reasons are in {paths[0]}.")


def extract(found: Found, out: pathlib.Path, extraction: Extraction, model: pathlib.Path, workers: int) -> dict:
    """Extracts what was found, says what goes wrong as it happens, and returns the content of report.json."""
    jobs = [Job(source, source.target(out)) for source in found.sources]
    rows: dict[str, dict[str, Any]] = {name: _failed(name, reason) for name, reason in found.failures}
    start = time.perf_counter()
    with VideoProgress({job: job.source.path.stat().st_size for job in jobs}) as progress:
        for row in rows.values():
            progress.say(_line(row))
        results = run_jobs(jobs, workers=workers, options=extraction, model=model, on_frames=progress.advance)
        with contextlib.closing(results):
            for job, report in results:
                row = _row(job, report, out)
                rows[row["clip"]] = row
                progress.finish(job, skipped=row["skipped"])
                if row["status"] != "ok":
                    progress.say(_line(row))
    return summarize(
        [rows[name] for name in sorted(rows)],
        options=dataclasses.asdict(extraction),
        ignored=found.ignored,
        seconds=time.perf_counter() - start,
        workers=workers,
    )


def _row(job: Job, report: dict[str, Any], out: pathlib.Path) -> dict[str, Any]:
    if report["status"] == "failed":
        stale = "; the file of an earlier run is still there" if job.target.is_file() else ""
        return _failed(job.source.name, report["reason"] + stale) | {"source": _printable(job.source.path)}
    names = {"clip": job.source.name, "source": _printable(job.source.path)}
    return {**names, "file": str(job.target.relative_to(out)), **report}


def _failed(name: str, reason: str) -> dict[str, Any]:
    return {"clip": _printable(name), "source": _printable(name), "file": None} | {
        "status": "failed",
        "reason": reason,
        "skipped": False,
        "notes": [],
    }


def _printable(path: str | pathlib.Path) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def _line(row: dict[str, Any]) -> str:
    return f"{row['status']}: {row['clip']}: {'; '.join(describe_clip(row))}"


def _closing(report: dict[str, Any]) -> str:
    share = "" if report["detection"] is None else f", {report['detection']:.2%} with a face"
    speed = f", {report['frames_per_second']:,.1f} frames/s" if report["frames_per_second"] else ""
    videos = f"{report['clips']} video{'s' * (report['clips'] != 1)}"
    return (
        f"{videos}: {report['ok']} ok, {report['rejected']} rejected, {report['failed']} failed "
        f"({report['already_done']} done before); {report['frames']:,} frames{share}; "
        f"{report['damaged_frames']} damaged in {report['clips_with_damage']} clips, {report['missing_frames']} missing"
        f"{speed}"
    )


def _require_extras() -> None:
    """Says at once what every worker would say."""
    for name in ("av", "mediapipe"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"extracting landmarks needs the package {name}: pip install 'jaxlip[video]'.")


@contextlib.contextmanager
def _locked(out: pathlib.Path) -> Iterator[None]:
    """Makes the output folder and keeps a second extraction out of it. Raises UserError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(f"--out {out} cannot be used as a folder: {error.strerror}.") from None
    try:
        try:
            # The lock goes with the process, however it ends; nothing is left in the folder.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--out {out} is being written by another extraction.") from None
        yield
    finally:
        os.close(descriptor)
