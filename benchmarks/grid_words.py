"""Every word reader on GRID's words: trains what is missing, scores it, and prints one table.

    python benchmarks/grid_words.py --data.root GRID --data.splits SPLITS_JSON
    python benchmarks/grid_words.py --data.root GRID --data.splits SPLITS_JSON --rows words_best v4 --seeds 5
    python benchmarks/grid_words.py --data.root GRID --data.splits SPLITS_JSON --short

Runs lie under --runs: those that are done are only read, one that was stopped is resumed; the same command again does
the rest. Speed counts reading the data and validation too. `--short` trains the readers of the original on windows of
15 frames (a word lasts 6) and for 10 epochs, V1 for 3 and V5 for 2: half an hour of one core each.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time

import numpy as np

REPOSITORY = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from jaxlip.cli.evaluate import evaluate  # noqa: E402
from jaxlip.cli.train import fit  # noqa: E402
from jaxlip.config import Experiment, load_config, override  # noqa: E402
from jaxlip.engine.run import RunFolder  # noqa: E402
from jaxlip.report.ensemble import gather, score_together  # noqa: E402
from jaxlip.report.saved import load_saved  # noqa: E402
from jaxlip.report.tables import scores_to_json  # noqa: E402

AUGMENT = ("--task.augment.shift", "0.02", "--task.augment.scale", "0.05", "--task.augment.roll", "2.0")
AUGMENT += ("--task.augment.noise", "0.003", "--task.augment.warp", "0.15", "--task.augment.move", "1.5")
AUGMENT += (
    "--task.augment.mask",
    "0.15",
)
AT_FRAMES = ("--task.model.dropout_at", "frames")
SHORT = ("--data.window", "15", "--data.buckets", "15")
SHORT_EPOCHS = {"v1": 3, "v2": 10, "v3": 10, "v3_resume": 10, "v4": 10, "v5": 2}
# Row -> the rows whose probabilities are averaged.
TOGETHER = {"v2 + v3": ("v2", "v3")}
# Row -> (config, what it changes).
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "v1": ("v1", ()),
    "v2": ("v2", ()),
    "v3": ("v3", ()),
    "v3_resume": ("v3_resume", ()),
    "v4": ("v4", ()),
    "v5": ("v5", ()),
    "v4+augmentation": ("v4", AUGMENT),
    "v3, dropout at frames": ("v3", AT_FRAMES),
    "v4, dropout at frames": ("v4", AT_FRAMES),
    "grid_words": ("grid_words", ()),
    "words_best": ("words_best", ()),
    "words_best, whole clip": ("words_best", ("--data.window", "75", "--data.buckets", "75", "--data.no-centred")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = [*ROWS, *TOGETHER]
    parser.add_argument("--rows", nargs="+", choices=rows, default=rows, help="which of them")
    parser.add_argument("--short", action="store_true", help="smaller windows and fewer epochs")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each row")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/grid_words_table"))
    options, shared = parser.parse_known_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    jobs = [(row, seed) for seed in range(options.seeds) for row in options.rows]
    lines = [
        together(row, seed, options.runs)
        if row in TOGETHER
        else figures(experiment_of(row, seed, options.short, shared), options.runs)
        for row, seed in jobs
    ]
    print("| run | epochs | test accuracy | floor | macro F1 | train - val | parameters | clips a CPU second |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))


def experiment_of(row: str, seed: int, short: bool, shared: list[str]) -> Experiment:
    """The row's experiment; its run is named after row and seed, and a warm start begins from the same seed's run."""
    config, changes = ROWS[row]
    shorter = (*SHORT, "--train.epochs", str(SHORT_EPOCHS[config])) if short and config in SHORT_EPOCHS else ()
    arguments = [*shorter, *changes, *shared, "--data.source", "grid", "--train.seed", str(seed)]
    experiment = override(load_config(REPOSITORY / f"configs/{config}.py"), arguments)
    source = f"{experiment.init_from}-s{seed}" if experiment.init_from else None
    return dataclasses.replace(experiment, name=f"{name_of(row)}-s{seed}", init_from=source)


def name_of(row: str) -> str:
    return row.replace(", ", "-").replace(" ", "-")


def figures(experiment: Experiment, runs: pathlib.Path) -> str:
    """A line of the table."""
    kept, folder = runs / f"{experiment.name}.json", RunFolder(runs / experiment.name)
    if not kept.is_file():
        resumed, began = bool(folder.steps), time.process_time()
        fit(experiment, runs, resume=resumed, overwrite=False)
        seconds = time.process_time() - began
        scored, _ = evaluate(load_saved(folder), "test")
        seen = epochs_of(folder) * json.loads(folder.config.read_text())["data"]["examples"]["train"]
        kept.write_text(json.dumps({**scored, "speed": None if resumed else seen / seconds}, indent=1) + "\n")
    read = json.loads(kept.read_text())
    gap, count = read["gap"]["accuracy"]["gap"], read["parameters"]["trainable"]
    speed = "" if read["speed"] is None else f"{read['speed']:.0f}"
    return line(f"`{experiment.name}`", epochs_of(folder), read["scores"], f"{gap:+.4f}", f"{count:,}", speed)


def epochs_of(folder: RunFolder) -> int:
    return folder.read_metrics()[-1]["epoch"]


def together(row: str, seed: int, runs: pathlib.Path) -> str:
    """A line of runs that answer together; their rows come first."""
    names = [f"{name}-s{seed}" for name in TOGETHER[row]]
    members = gather([load_saved(RunFolder(runs / name)) for name in names])
    scores, _ = score_together(members, "test", weights_M=np.full(len(names), 1 / len(names)))
    kept = [json.loads((runs / f"{name}.json").read_text()) for name in names]
    count = sum(read["parameters"]["trainable"] for read in kept)
    return line(" + ".join(f"`{name}`" for name in names), "", scores_to_json(scores)["scores"], "", f"{count:,}", "")


def line(name: str, epochs: int | str, scores: dict, *more: str) -> str:
    accuracy, f1 = scores["accuracy"], scores["macro_f1"]
    interval = f"[{accuracy['low']:.4f}, {accuracy['high']:.4f}]"
    cells = [
        name,
        str(epochs),
        f"{accuracy['value']:.4f} {interval}",
        f"{accuracy['floor']:.4f}",
        f"{f1['value']:.4f}",
        *more,
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
