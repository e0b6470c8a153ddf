"""Reads what is said in videos: landmarks, the run's normalisation and its model in one go.

A run for words gives the five likeliest with their probabilities. It was trained on a window of frames around one
word, with the word's frames marked: so VIDEO is a clip of ONE word. When it is spoken says --span, or a <clip>.txt
beside the video (`Start:` and `End:`, or `Duration:` with the word in the middle, in seconds). If neither does, the
word is taken to be in the middle of the clip (of a clip longer than the window: where the lips move most), and the
probabilities are averaged over words of 6, 9 and 13 frames. A run for sentences reads the whole clip and needs none.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxlip.cli.options import Parser
from jaxlip.cli.quiet import quiet
from jaxlip.data.clips import DamagedClip
from jaxlip.data.extract import Extraction, Extractor
from jaxlip.data.find_videos import list_videos
from jaxlip.data.landmarker import find_model, import_mediapipe
from jaxlip.data.video import import_av
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.face.presets import preset_ids
from jaxlip.predict.overlay import write_overlay
from jaxlip.predict.reader import Reader
from jaxlip.predict.recording import is_landmarks, read_recording, spoken_span
from jaxlip.report.saved import load_saved
from jaxlip.tasks.answer import Answer


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip predict", __doc__)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video, folder or glob, or .npz of jaxlip extract")
    parser.add_argument("--run", required=True, metavar="RUN", help="trained run, by name under --runs or by path")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all answers to this file")
    parser.add_argument(
        "--overlay",
        type=pathlib.Path,
        metavar="OUT",
        help="write the video with landmarks and subtitles: an .mp4 file, or a folder for several videos",
    )
    parser.add_argument("--span", type=float, nargs=2, metavar=("START", "END"), help="when the word is, in seconds")
    parser.add_argument("--decoder", help="how sentences are read: lexicon (default), beam, grammar or greedy")
    parser.add_argument("--checkpoint", choices=("best", "latest"), default="best", help="best by default")
    parser.add_argument("--face", default="largest", help="largest (default), center, or N: the N-th from the left")
    parser.add_argument("--face-model", type=pathlib.Path, metavar="FILE", help="face_landmarker.task, if you have it")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    parser.epilog = "Options --task.decode.* of the run's config (how sentences are decoded) can be given anew."
    options, decoding = parser.parse_known_args(arguments)
    if options.json and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        raise UserError(f"--json {options.json} cannot be written: it is a folder, or there is no folder for it.")
    paths, failures = _sources(options.videos)
    overlays = _overlays(options.overlay, paths)
    extraction = Extraction(face=options.face)
    saved = load_saved(RunFolder.find(options.run, options.runs), options.checkpoint)
    reader = Reader(saved.read_with(decoding, parser.prog) if decoding else saved, options.decoder)
    span = tuple(options.span) if options.span else None
    if span and not reader.one_word:
        raise UserError("--span is for runs that read one word; this one reads whole sentences.")
    rows: list[dict[str, Any]] = [{"video": name, "status": "failed", "reason": reason} for name, reason in failures]
    for row in rows:
        print(f"{row['video']}: failed: {row['reason']}", flush=True)
    with Extractor(extraction, _face_model(paths, options.face_model)) as extractor:
        for path in paths:
            rows.append(_predict(path, reader, extractor, span, overlays.get(path)))
    if options.json:
        options.json.write_text(json.dumps({"run": str(saved.folder.path), "videos": rows}, indent=1) + "\n")
        print(f"wrote {options.json}")
    if failed := [row for row in rows if row["status"] == "failed"]:
        raise UserError(f"{len(failed)} of {len(rows)} videos failed, such as {failed[0]['video']}.")


def _predict(
    path: pathlib.Path,
    reader: Reader,
    extractor: Extractor,
    span: tuple[float, float] | None,
    overlay: pathlib.Path | None,
) -> dict[str, Any]:
    """Reads a video, prints the answer or why there is none, and returns what --json says of it."""
    row: dict[str, Any] = {"video": str(path), "status": "ok"}
    try:
        with quiet():
            recording = read_recording(path, extractor)
        spoken = spoken_span(path, span, recording.seconds) if reader.one_word else None
        answer = reader.read_recording(recording, spoken)
        notes = recording.notes_at(reader.fps) + answer.notes
        row |= answer.to_json() | {"notes": list(notes)}
        print("\n".join([*_lines(path, answer), *(f"  note: {note}" for note in notes)]), flush=True)
        if overlay:
            write_overlay(recording, answer, overlay, preset_ids(reader.data.preset))
            row["overlay"] = str(overlay)
            print(f"  wrote {overlay}", flush=True)
    except (DamagedClip, UserError) as error:
        row |= {"status": "failed", "reason": str(error).rstrip(".")}
        print(f"{path}: failed: {row['reason']}", flush=True)
    return row


def _lines(path: pathlib.Path, answer: Answer) -> list[str]:
    if answer.likeliest:
        width = max(len(word) for word, _ in answer.likeliest)
        return [f"{path}: {answer.text}", *(f"  {word:<{width}}  {p:6.1%}" for word, p in answer.likeliest)]
    width = max((len(word.text) for word in answer.words), default=0)
    return [
        f"{path}: {answer.text or '(nothing)'}",
        *(f"  {w.start:6.2f} to {w.end:6.2f} s  {w.text:<{width}}  {w.confidence:4.0%}" for w in answer.words),
    ]


def _sources(arguments: Sequence[str]) -> tuple[list[pathlib.Path], list[tuple[str, str]]]:
    """What is to be read, and (name, reason) of what cannot be. Raises UserError if an argument names nothing."""
    paths: list[pathlib.Path] = []
    failures: list[tuple[str, str]] = []
    for argument in arguments:
        if is_landmarks(pathlib.Path(argument)) and pathlib.Path(argument).is_file():
            paths.append(pathlib.Path(argument))
        else:
            found = list_videos([argument])
            paths += [source.path for source in found.sources]
            failures += found.failures
    return list(dict.fromkeys(paths)), failures


def _overlays(out: pathlib.Path | None, paths: list[pathlib.Path]) -> dict[pathlib.Path, pathlib.Path]:
    """Where each video's overlay goes. Raises UserError for a name that will not do."""
    if out is None:
        return {}
    for path in paths:
        if is_landmarks(path):
            raise UserError(f"--overlay needs pictures, and {path} has landmarks only; give the video.")
    if out.suffix.lower() == ".mp4" and not out.is_dir():
        if len(paths) > 1:
            raise UserError(f"--overlay {out} is one file for {len(paths)} videos; give a folder.")
        targets = {path: out for path in paths}
    elif out.suffix and not out.is_dir():
        raise UserError(f"--overlay {out} is neither a name that ends in .mp4 nor a folder.")
    else:
        targets = {path: out / f"{path.stem}.mp4" for path in paths}
    for path, target in targets.items():
        others = [other for other in paths if other != path and targets[other] == target]
        if others:
            raise UserError(f"--overlay: {path} and {others[0]} would both be written to {target}; rename one.")
        if target.exists() and any(target.samefile(other) for other in paths):
            raise UserError(f"--overlay {target} would replace a video that is to be read.")
    return targets


def _face_model(paths: list[pathlib.Path], given: pathlib.Path | None) -> pathlib.Path:
    """The model file; landmarks that are there need none, nor what finds faces. Raises UserError."""
    if all(is_landmarks(path) for path in paths):
        return pathlib.Path()
    import_av()
    import_mediapipe()
    return find_model(given)
