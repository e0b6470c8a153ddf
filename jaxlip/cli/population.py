"""What commands share that train many runs at once."""

import argparse
import pathlib
import time
from collections.abc import Sequence

from jaxlip.cli.options import Parser
from jaxlip.cli.train import begin, can_resume, create, look_before
from jaxlip.config import Experiment
from jaxlip.data.folds import read_corpora
from jaxlip.engine.loop import Trainer
from jaxlip.engine.lstm_choice import choose_together
from jaxlip.engine.own_numbers import differing_scalars
from jaxlip.engine.population import Population
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.report.saved import load_saved


def population_parser(prog: str, description: str | None) -> Parser:
    """The options of commands that train a population."""
    parser = Parser(prog, description, add_help=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resume", action="store_true", help="continue the runs that there are, begin the others")
    parser.add_argument("--overwrite", action="store_true", help="replace runs of these names")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    parser.add_argument(
        "--no-preflight", action="store_true", help="do not look for what would make the runs worthless"
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all figures to this file")
    return parser


def train_population(experiments: Sequence[Experiment], options: argparse.Namespace) -> list[RunFolder]:
    """Trains what is not trained yet, and gives the folders of all."""
    if options.resume and options.overwrite:
        raise UserError("--resume and --overwrite exclude each other.")
    if options.json and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        raise UserError(f"--json {options.json} cannot be written: it is a folder, or there is no folder for it.")
    checked = not options.no_preflight
    return fit_together(experiments, options.runs, resume=options.resume, overwrite=options.overwrite, checked=checked)


def fit_together(
    experiments: Sequence[Experiment], runs: pathlib.Path, *, resume: bool, overwrite: bool, checked: bool = False
) -> list[RunFolder]:
    """Trains experiments that differ in their names, seeds, folds and numbers alone, each to its end; with `resume`,
    those that have no run yet are begun. Raises UserError for other differences."""
    differing_scalars(experiments)
    folders = [RunFolder(runs / experiment.name) for experiment in experiments]
    pairs = list(zip(folders, experiments, strict=True))
    resumed = [resume and folder.path.is_dir() and can_resume(folder, experiment) for folder, experiment in pairs]
    for folder, again in zip(folders, resumed, strict=True):
        if not again:
            folder.check_free(overwrite=overwrite)
    first = experiments[0]
    initial = load_saved(RunFolder.find(first.init_from, runs)) if first.init_from and not all(resumed) else None
    print(f"reading data ({first.name} ... {experiments[-1].name})", flush=True)
    corpora = read_corpora(experiments)
    for note in corpora[0].notes:
        print(f"note: {note}", flush=True)
    checks = look_before(first, corpora[0]) if checked and not all(resumed) else []
    lstm = choose_together(pairs, resumed, corpora[0])
    if lstm.milliseconds:
        print(lstm.line(), flush=True)
    trainers: list[Trainer] = []
    for (folder, experiment), corpus, again in zip(pairs, corpora, resumed, strict=True):
        print(f"{experiment.name}: {corpus.counts['examples']}   fingerprint {corpus.fingerprint}", flush=True)
        if not again:
            create(folder, experiment, corpus, checks, lstm, overwrite=overwrite)
        like = trainers[0] if trainers else None
        trainers.append(Trainer(experiment, folder, corpus, like=like, lstm=lstm.backend))
        begin(trainers[-1], initial, resume=again)
    began, population = time.perf_counter(), Population(trainers)
    try:
        population.fit()
    finally:
        for folder, experiment in pairs:
            folder.write_end(seconds=time.perf_counter() - began, failure=population.failed.get(experiment.name, ""))
        for trainer in trainers:
            trainer.checkpoints.close()
    return folders
