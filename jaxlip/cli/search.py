"""Searches for better hyper-parameters of a config with Optuna.

  jaxlip search --config configs/v3.py --trials 20
  jaxlip search --config configs/v3.py --trials 20 --over optim.lr=1e-4:1e-2:log --over train.batch=16,32,64

The first trial is the config as it is. Trials are judged by --train.monitor on the validation split; those behind the
median of the others at the same epoch end early, after a quarter of their epochs or later. Each is a run of its own.
--together are proposed before any of them is trained; those of them that differ in numbers alone are trained at once,
in one program. The same command continues a search that was stopped or killed; a larger --trials makes it longer.
"""

import argparse
import pathlib
import shlex
import signal
from collections.abc import Sequence
from typing import Any

from jaxlip.cli.options import Parser, with_config
from jaxlip.cli.train import look_before
from jaxlip.data.folds import read_corpus
from jaxlip.engine.search import Search
from jaxlip.engine.space import parse_space
from jaxlip.errors import Interrupted, UserError
from jaxlip.report.tables import format_rows


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip search", __doc__, add_help=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="trials in all (default 20)")
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="FIELD=SPACE",
        help="what is searched: LOW:HIGH, LOW:HIGH:log or VALUE,VALUE,...; may be given again "
        "(default: learning rate, weight decay, dropout, label smoothing)",
    )
    parser.add_argument(
        "--together", type=int, default=4, metavar="K", help="trials that are trained at once (default 4)"
    )
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/search"), help="folder of all searches")
    parser.add_argument("--no-pruning", action="store_true", help="train every trial to its end")
    parser.add_argument("--no-preflight", action="store_true", help="do not look for what would make runs worthless")
    options, experiment = with_config(parser, arguments)
    for name in ("trials", "together"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)} must be 1 or more.")
    space = parse_space(options.over, experiment)
    folder, pruned = options.runs / experiment.name, not options.no_pruning
    search = Search(experiment, space, folder, pruned=pruned, together=options.together)
    corpus = read_corpus(experiment)
    for note in corpus.notes:
        print(f"note: {note}", flush=True)
    if not options.no_preflight and not search.ranked():
        look_before(experiment, corpus)
    try:
        for trial in search.trials(corpus, options.trials):
            print(_line(search, trial), flush=True)
    except Interrupted as stop:
        why = "the running trials are saved, and the same command continues the search"
        raise Interrupted(stop.number, f"stopped by {signal.Signals(stop.number).name}; {why}.") from None
    finally:
        search.close()
    _, given = parser.parse_known_args(arguments)
    _conclude(search, ["--config", options.config, *given])


def _line(search: Search, trial: Any) -> str:
    value = "" if trial.value is None else f" {search.monitor} {trial.value:.4f}"
    return f"trial {trial.number} {trial.state.name.lower()}{value}  {' '.join(search.options(trial.params))}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _conclude(search: Search, options: Sequence[str]) -> None:
    """What all trials gave, and how to look further at the best; `options` are those of the config as it is."""
    ranked = search.ranked()
    states = [trial.state.name.lower() for trial in search.study.trials]
    print(f"\n{', '.join(f'{states.count(state)} {state}' for state in sorted(set(states)))}; the best complete ones:")
    rows = [
        {"trial": trial.number, search.monitor: trial.value} | {k: _short(v) for k, v in trial.params.items()}
        for trial in ranked[:5]
    ]
    if not rows:
        raise UserError(f"no trial came to its end; {search.folder} has their runs.")
    print(format_rows(rows))
    best = ranked[0]
    own = next((f"{trial.value:.4f}" for trial in ranked if trial.number == 0), "its loss is not finite")
    print(f"\nbest: trial {best.number}, validation {search.monitor} {best.value:.4f}; the config as it is: {own}")
    if best.number:
        print("The best of many looks better than it is on the validation clips that chose it; on others:")
        runs = [str(search.run_folder(number).path) for number in (0, best.number)]
        for path in runs:
            print(f"  python evaluate.py --run {path} --split test")
        print(f"  jaxlip compare {' '.join(runs)} --split test")
    print(f"  python train.py {shlex.join([*options, *search.options(best.params)])}")
