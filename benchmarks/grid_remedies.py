"""What each remedy of V4's own analysis, and one of ours, does for it on GRID's words, five seeds of each at once.

    python benchmarks/grid_remedies.py --data.root GRID --data.splits SPLITS_JSON

Calls `jaxlip seeds` once without and once with each remedy, on V4 made small (width 64, dropout .3, windows of 15
frames, 12 epochs: some ten minutes a population on one core), and prints one table of test accuracies. Populations lie
under --runs: the same command again resumes what was stopped and only reads what is done.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

from grid_words import AT_FRAMES, AUGMENT, REPOSITORY

SMALL = ("--task.model.hidden", "64", "--task.model.dropout", "0.3", "--train.epochs", "12")
SMALL += ("--data.source", "grid", "--data.window", "15", "--data.buckets", "15")
# Remedy -> (what V4 is without it, what it is with it). V4 itself has warmup, patience and the mask channel.
REMEDIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "augmentation": ((), AUGMENT),
    "mixup": ((), ("--task.mix.mixup", "0.5")),
    "warmup": (("--optim.warmup_epochs", "0.0"), ()),
    "mask channel": (("--data.no-mask-channel",), ()),
    "longer patience": (("--train.patience", "1"), ()),
    "dropout at frames": ((), AT_FRAMES),
}
PLAIN = "v4_small"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--remedies", nargs="+", choices=REMEDIES, default=list(REMEDIES), help="which of them")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/grid_remedies"))
    options, shared = parser.parse_known_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    population(PLAIN, (), options, shared)
    lines = [row(remedy, options, shared) for remedy in options.remedies]
    print("| remedy | without | with | with - without |")
    print("|---|---|---|---|")
    print("\n".join(lines))


def row(remedy: str, options: argparse.Namespace, shared: list[str]) -> str:
    """A line of the table: mean accuracies with their intervals, and the interval of their difference."""
    without, _ = REMEDIES[remedy]
    sign = -1 if without else 1
    name = f"{PLAIN}_{'no_' if without else ''}{remedy.replace(' ', '_')}"
    figures = population(name, [change for part in REMEDIES[remedy] for change in part], options, shared)
    plain, other = (interval(figures[each]["scores"]["accuracy"]) for each in (PLAIN, name))
    found = figures["differences"]["accuracy"]
    low, high = sorted(sign * found[edge] for edge in ("low", "high"))
    cells = [remedy, *((other, plain) if without else (plain, other))]
    return f"| {' | '.join(cells)} | {sign * found['value']:+.3f} [{low:+.3f}, {high:+.3f}] |"


def interval(spread: dict) -> str:
    return f"{spread['mean']:.3f} [{spread['low']:.3f}, {spread['high']:.3f}]"


def population(name: str, changes, options: argparse.Namespace, shared: list[str]) -> dict:
    """The figures that `jaxlip seeds` gives of a population, which is trained where it is not there yet."""
    kept = options.runs / f"{name}.json"
    if not kept.is_file():
        command = [sys.executable, "-c", "import sys; sys.argv[0] = 'jaxlip'; from jaxlip.cli.main import main; main()"]
        command += ["seeds", "--config", str(REPOSITORY / "configs/v4.py"), "--name", name, "-n", str(options.seeds)]
        command += ["--runs", str(options.runs), "--resume", "--json", str(kept), *SMALL, *changes, *shared]
        command += [] if name == PLAIN else ["--against", PLAIN]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    return json.loads(kept.read_text())


if __name__ == "__main__":
    main()
