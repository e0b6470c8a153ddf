"""Scores a run on a split: every score with a 95 % bootstrap interval and its floor, tables and plots."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxlip.cli.options import Parser
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.report.plots import plot_confusion, plot_curves, plot_pairs
from jaxlip.report.run_page import write_report
from jaxlip.report.saved import Saved, load_saved
from jaxlip.report.scoring import score_split, write_scores
from jaxlip.report.tables import format_rows, format_scores, write_confusion, write_rows


def run(arguments: Sequence[str]) -> None:
    parser = Parser("evaluate.py", __doc__)
    parser.add_argument("--run", required=True, metavar="RUN", help="run to score, by name under --runs or by path")
    parser.add_argument("--split", default="test", help="split to score: train, val or test (default)")
    parser.add_argument(
        "--checkpoint", choices=("best", "latest"), default="best", help="by validation loss, or the last"
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--root", help="where the run's data are now, if they have moved (data.root)")
    parser.add_argument("--splits", help="where the run's splits file is now (data.splits)")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    parser.epilog = "Options --task.decode.* of the run's config (how sentences are decoded) can be given anew."
    options, decoding = parser.parse_known_args(arguments)
    if options.json and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        raise UserError(f"--json {options.json} cannot be written: it is a folder, or there is no folder for it.")
    saved = load_saved(RunFolder.find(options.run, options.runs), options.checkpoint)
    saved = saved.read_with(decoding, parser.prog) if decoding else saved
    print(f"scoring {saved.folder.path} on {options.split}", flush=True)
    moved = {name: getattr(options, name) for name in ("root", "splits") if getattr(options, name)}
    figures, text = evaluate(saved, options.split, **moved)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
        text += f"\nwrote {options.json}"
    print(text)


def evaluate(saved: Saved, split: str, **moved: str) -> tuple[dict[str, Any], str]:
    """All figures, and the text that tells them; writes plots and tables into the run folder."""
    corpus = saved.corpus(**moved)
    figures, scores = score_split(saved, corpus, split)
    gap = _generalisation_gap(saved, corpus)
    figures["gap"] = {name: {"train": train, "val": val, "gap": train - val} for name, (train, val) in gap.items()}
    parameters = figures["parameters"]
    lines = [
        f"run {saved.folder.path}  checkpoint step {saved.step}  split {split}  examples {scores.count}",
        f"parameters {parameters['trainable']:,} trainable, {parameters['buffers']:,} buffers",
        "",
        format_scores(scores),
        "",
        f"loss {figures['loss']:.4f}",
        *(f"train-val gap, {name}: {t:.4f} - {v:.4f} = {t - v:+.4f}" for name, (t, v) in gap.items()),
        *(f"\n{name}\n{format_rows(rows, limit=20)}" for name, rows in scores.tables.items()),
        *(f"wrote {path}" for path in _write(saved, split, scores)),
        f"wrote {write_scores(saved, corpus, figures, scores)}",
        f"wrote {write_report(saved.folder)}",
    ]
    return figures, "\n".join(lines)


def _generalisation_gap(saved: Saved, corpus) -> dict[str, tuple[float, float]]:
    """Each metric on the whole training and validation split, both in inference with the same parameters."""
    train = saved.predict(corpus, "train")[1]
    val = saved.predict(corpus, "val")[1]
    return {name: (train[name], val[name]) for name in train}


def _write(saved: Saved, split: str, scores) -> list[pathlib.Path]:
    folder, written = saved.folder, []
    if rows := folder.read_metrics():
        written.append(folder.path / "curves.png")
        floors = {name: score.floor for name, score in scores.scores.items() if score.floor is not None}
        plot_curves(rows, written[-1], floors)
    for name, rows in scores.tables.items():
        written.append(folder.path / f"{name}_{split}.csv")
        write_rows(rows, written[-1])
    if scores.pairs:
        written.append(folder.path / f"scatter_{split}.png")
        plot_pairs(scores.pairs, written[-1])
    if scores.confusion_KK is not None:
        written += [folder.path / f"confusion_{split}.png", folder.path / f"confusion_{split}.csv"]
        plot_confusion(scores.confusion_KK, scores.classes, written[-2])
        write_confusion(scores, written[-1])
    return written
