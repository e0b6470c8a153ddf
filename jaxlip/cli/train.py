"""Train an experiment from a config file."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence

from jaxlip.cli.hosts import add_host_options, joined
from jaxlip.cli.options import Parser, with_config
from jaxlip.config import Experiment, differences, to_json
from jaxlip.data.batches import Corpus
from jaxlip.data.folds import read_corpus
from jaxlip.engine import hosts
from jaxlip.engine.checkpoint import Checkpoints
from jaxlip.engine.loop import FREE_ON_RESUME, NonFiniteLoss, Trainer
from jaxlip.engine.lstm_choice import Choice, choose, choose_again
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.preflight.check import Check
from jaxlip.preflight.run import preflight, stop_if_failed
from jaxlip.report.environment import environment
from jaxlip.report.run_page import write_report
from jaxlip.report.saved import Saved, load_saved
from jaxlip.report.scoring import forget_scores, score_validation


def run(arguments: Sequence[str]) -> None:
    parser = Parser("train.py", __doc__, add_help=False)
    parser.add_argument(
        "--resume", action="store_true", help="continue the run of this name from its latest checkpoint"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run of this name")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    parser.add_argument("--no-preflight", action="store_true", help="do not look for what would make the run worthless")
    parser.add_argument(
        "--no-report", action="store_true", help="do not score validation and write report.html at the end"
    )
    add_host_options(parser)
    options, experiment = with_config(parser, arguments)
    if options.resume and options.overwrite:
        raise UserError("--resume and --overwrite exclude each other.")
    with joined(options):
        fit(
            experiment,
            options.runs,
            resume=options.resume,
            overwrite=options.overwrite,
            checked=not options.no_preflight,
            reported=not options.no_report,
        )


def fit(
    experiment: Experiment,
    runs: pathlib.Path,
    *,
    resume: bool,
    overwrite: bool,
    checked: bool = False,
    reported: bool = False,
) -> None:
    """Trains to the end and says how to look at the result; if `checked`, a new run only begins after preflight; if
    `reported`, it ends with report.html."""
    folder = RunFolder(runs / experiment.name, writes=hosts.first())
    resume = hosts.together(lambda: resume and can_resume(folder, experiment))
    if not resume:
        hosts.together(lambda: folder.check_free(overwrite=overwrite))
    source = RunFolder.find(experiment.init_from, runs) if experiment.init_from and not resume else None
    initial = load_saved(source) if source else None
    corpus = hosts.together(lambda: _read(experiment))
    hosts.same("their data's fingerprint", corpus.fingerprint)
    hosts.same("their config", json.dumps(to_json(experiment), sort_keys=True))
    checks = hosts.together(lambda: look_before(experiment, corpus) if checked and not resume else [])
    lstm = hosts.together(lambda: choose_again(experiment, corpus, folder) if resume else choose(experiment, corpus))
    if lstm.milliseconds:
        print(lstm.line(), flush=True)
    if not resume:
        # Only now: a mistake found while reading must not cost the run that is to be replaced.
        hosts.together(lambda: create(folder, experiment, corpus, checks, lstm, overwrite=overwrite))
    trainer = Trainer(experiment, folder, corpus, lstm=lstm.backend)
    begin(trainer, None if resume else initial, resume=resume)
    _train(trainer, reported=reported)
    trainer.checkpoints.close()
    split = "test" if "test" in corpus.splits else "val"
    print(f"score it with: python evaluate.py --run {folder.path} --split {split}")


def _read(experiment: Experiment) -> Corpus:
    print(f"reading data ({experiment.name})", flush=True)
    corpus = read_corpus(experiment)
    print(f"examples: {corpus.counts['examples']}   fingerprint {corpus.fingerprint}", flush=True)
    for note in corpus.notes:
        print(f"note: {note}", flush=True)
    return corpus


def create(
    folder: RunFolder,
    experiment: Experiment,
    corpus: Corpus,
    checks: Sequence[Check],
    lstm: Choice,
    *,
    overwrite: bool,
) -> None:
    """Makes the folder of a run that is about to begin."""
    folder.create(overwrite=overwrite)
    noted = [dataclasses.asdict(check) for check in checks]
    folder.write_config(
        experiment,
        corpus.fingerprint,
        corpus.counts,
        environment=environment(),
        preflight=noted,
        lstm=dataclasses.asdict(lstm),
    )


def begin(trainer: Trainer, initial: Saved | None, *, resume: bool) -> None:
    """Puts the trainer where its run left off, or at the parameters of another."""
    if resume:
        trainer.resume()
        print(f"resuming at step {int(trainer.state.step)}", flush=True)
    elif initial and trainer.experiment.grow:
        growth = trainer.grow(initial.state.best_params, initial.state.model_state)
        print(f"starting from {initial.folder.path}, step {initial.step}", *growth.lines(), sep="\n  ", flush=True)
    elif initial:
        trainer.warm_start(initial.state.best_params, initial.state.model_state, str(initial.folder.path))
        print(f"starting from {initial.folder.path}, step {initial.step}", flush=True)


def _train(trainer: Trainer, *, reported: bool) -> None:
    """Trains; how it ended is noted in any case, and the report written where it ended by itself."""
    folder, began, failure = trainer.folder, time.perf_counter(), ""
    try:
        trainer.fit()
    except NonFiniteLoss as error:
        failure = str(error)
        raise
    finally:
        folder.write_end(seconds=time.perf_counter() - began, failure=failure)
        if failure and reported:
            _report(trainer, scored=False)
    if reported:
        _report(trainer, scored=True)


def _report(trainer: Trainer, *, scored: bool) -> None:
    """Validation scored with the best checkpoint, and report.html; what goes wrong with it costs no run."""
    try:
        if trainer.folder.writes:
            forget_scores(trainer.folder)
        if scored:
            score_validation(trainer)
        if trainer.folder.writes:
            print(f"wrote {write_report(trainer.folder)}", flush=True)
    # The run is trained and saved: whatever a report cannot do is no reason to end in an error.
    except Exception as error:
        print(f"warning: report.html could not be written: {type(error).__name__}: {error}", flush=True)


def look_before(experiment: Experiment, corpus: Corpus) -> list[Check]:
    """Runs preflight and says what it has against the run. Raises PreflightFailed."""
    began, checks = time.perf_counter(), list(preflight(experiment, corpus))
    for check in checks:
        if check.verdict != "pass":
            print(check.line(), flush=True)
    fine = sum(check.verdict == "pass" for check in checks)
    print(f"preflight: {fine} of {len(checks)} checks passed in {time.perf_counter() - began:.0f} s", flush=True)
    stop_if_failed(checks)
    return checks


def can_resume(folder: RunFolder, experiment: Experiment) -> bool:
    """Whether there is a checkpoint to resume from; one with another config is refused before any data are read."""
    if not folder.path.is_dir():
        raise UserError(f"{folder.path} holds no run to resume; start it without --resume.")
    if not folder.steps:
        print(f"{folder.path} was stopped before its first checkpoint; starting it again", flush=True)
        return False
    checkpoints = Checkpoints(folder.checkpoints, read_only=True)
    saved = checkpoints.meta(folder.steps[-1]).experiment
    checkpoints.close()
    if changed := differences(saved, experiment, ignore=FREE_ON_RESUME):
        raise UserError(f"{folder.path} was trained with another config: {'; '.join(changed)}.")
    return True
