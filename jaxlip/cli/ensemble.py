"""Scores several runs as one: the mean of their probabilities (of whole sentences, where sentences are read).

All runs must answer the same questions: the same splits, labels and vocabulary; models, features and seeds may differ.
`--views mirror 0.9 1.1` asks each run about mirrored, slower and faster clips as well (test-time augmentation).
"""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxlip.cli.options import Parser
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.metrics.paired import score_difference
from jaxlip.metrics.scores import Scores
from jaxlip.report.ensemble import fitted_on_validation, gather, score_together
from jaxlip.report.saved import load_saved
from jaxlip.report.tables import format_rows, format_scores, scores_to_json


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip ensemble", __doc__)
    parser.add_argument("members", nargs="+", metavar="RUN", help="runs, by name under --runs or by path")
    parser.add_argument(
        "--views",
        nargs="+",
        default=(),
        metavar="VIEW",
        help="ask every run about other views of the clips too: mirror, or a speed such as 0.9 (faces only)",
    )
    parser.add_argument("--split", default="test", help="split to score: val or test (default)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--weights", action="store_true", help="weights fitted on the validation split, not equal ones")
    how.add_argument("--route", choices=("confidence",), help="each example by the run that is surest of it alone")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--root", help="where the runs' data are now, if they have moved (data.root)")
    parser.add_argument("--splits", help="where the runs' splits file is now (data.splits)")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    parser.epilog = "Options --task.decode.* of the runs' configs (how sentences are decoded) can be given anew."
    options, decoding = parser.parse_known_args(arguments)
    if len(options.members) < 2 and not options.views:
        raise UserError("an ensemble needs two runs or more, or one and --views.")
    if options.json and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        raise UserError(f"--json {options.json} cannot be written: it is a folder, or there is no folder for it.")
    saved = [load_saved(RunFolder.find(name, options.runs)) for name in options.members]
    saved = [run.read_with(decoding, parser.prog) if decoding else run for run in saved]
    saved = [seen for run in saved for seen in (run, *map(run.seen_as, options.views))]
    names = [f"{name}{view}" for name in options.members for view in ("", *(f" ({v})" for v in options.views))]
    members = gather(saved, **{name: getattr(options, name) for name in ("root", "splits") if getattr(options, name)})
    if options.split not in members.corpora[0].splits:
        known = ", ".join(members.corpora[0].splits)
        raise UserError(f"there is no split {options.split!r} in these data; there are {known}.")
    weights_M = np.full(len(saved), 1 / len(saved))
    weights_M = fitted_on_validation(members) if options.weights else weights_M
    scores, alone = score_together(members, options.split, weights_M=None if options.route else weights_M)
    print(_text(options, names, scores, alone, weights_M))
    if options.json:
        figures = {
            "runs": names,
            "split": options.split,
            "weights": None if options.route else weights_M.tolist(),
            **scores_to_json(scores),
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"wrote {options.json}")


def _text(options, names: list[str], scores: Scores, alone: list[Scores], weights_M: np.ndarray) -> str:
    how = "by the surest of them" if options.route else f"mixed by weights {', '.join(f'{w:.3f}' for w in weights_M)}"
    return "\n".join(
        [
            f"{len(alone)} {'views' if options.views else 'runs'} on {options.split}, {scores.count} examples, {how}",
            "",
            format_scores(scores),
            "",
            format_rows(_beside(names, scores, alone)),
        ]
    )


def _beside(names: Sequence[str], scores: Scores, alone: list[Scores]) -> list[dict]:
    """The ensemble against each member, in every score that has a floor."""
    rows = []
    for name, score in scores.scores.items():
        if score.floor is None:
            continue
        for member, own in zip(names, alone, strict=True):
            if name not in own.scores:
                continue
            difference = score_difference(own.scores[name], score)
            said = (
                "" if difference is None else f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
            )
            row = {"score": name, "run": member, "alone": own.scores[name].value, "together": score.value}
            rows.append({**row, "difference": said})
    return rows
