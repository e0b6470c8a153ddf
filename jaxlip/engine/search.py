"""A search for better hyper-parameters: trials that Optuna proposes, each a run of its own, in a study on disk.

The folder of a search holds the config and space it began with, Optuna's journal, and a run folder a trial. Whatever
ends a search, the next one goes on where it was: with the trial that was running, from its checkpoint.
"""

import contextlib
import dataclasses
import fcntl
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax

from jaxlip.config import Experiment, differences, from_json, override, to_json
from jaxlip.data.batches import Corpus
from jaxlip.engine.loop import NonFiniteLoss, Trainer
from jaxlip.engine.lstm_choice import choose, choose_again
from jaxlip.engine.run import RunFolder
from jaxlip.engine.space import Space
from jaxlip.errors import UserError
from jaxlip.metrics.direction import higher_is_better

FREE = ("data.root", "data.splits", "data.landmarks", "data.resident_gib", "targets")
"""Fields that may change when a search goes on."""
RANDOM_TRIALS = 8
"""Trials, the config's own among them, before proposals learn from results (tree-structured Parzen estimators, Bergstra
et al. 2011) and before trials are pruned."""


def optuna() -> Any:
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("searching needs Optuna: pip install 'jaxlip[search]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Search:
    """A study on disk; made anew or found again."""

    def __init__(self, experiment: Experiment, space: Space, folder: pathlib.Path, *, pruned: bool):
        """`pruned`: whether trials that fall behind the median end early. Raises UserError if the folder holds a search
        of something else, or one that is going on."""
        self.experiment, self.space, self.folder = experiment, space, folder
        self.monitor = experiment.train.monitor
        self.maximize = higher_is_better(self.monitor)
        self.optuna = optuna()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock()
        try:
            self._check_same()
        except UserError:
            self.close()
            raise
        journal = self.optuna.storages.journal
        self.study = self.optuna.create_study(
            storage=self.optuna.storages.JournalStorage(journal.JournalFileBackend(str(folder / "journal.jsonl"))),
            study_name="search",
            load_if_exists=True,
            direction="maximize" if self.maximize else "minimize",
            pruner=self.optuna.pruners.MedianPruner(n_startup_trials=RANDOM_TRIALS)
            if pruned
            else self.optuna.pruners.NopPruner(),
        )
        if not self.study.trials:
            self.study.enqueue_trial({part.field: part.own for part in space})

    def _lock(self) -> None:
        """Held until `close` or until the process ends, however it does."""
        self._held = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UserError(f"another search is going on in {self.folder}; --name NEW starts one beside it.") from None

    def close(self) -> None:
        self._held.close()

    def _check_same(self) -> None:
        file = self.folder / "search.json"
        if not file.is_file():
            # In one step: a kill must leave the whole file or none.
            new = file.with_suffix(".new")
            new.write_text(json.dumps({"experiment": to_json(self.experiment), "space": to_json(self.space)}) + "\n")
            new.replace(file)
            return
        saved = json.loads(file.read_text())
        if changed := differences(from_json(saved["experiment"]), self.experiment, ignore=FREE):
            raise UserError(f"{self.folder} is a search of another config: {'; '.join(changed)}; --name NEW.")
        if from_json(saved["space"]) != self.space:
            raise UserError(f"{self.folder} is a search of another space (search.json has it); --name NEW.")

    def trials(self, corpus: Corpus, count: int) -> Iterator[Any]:
        """Trains until the study has `count` trials; yields each that ends. Raises Interrupted."""
        states = self.optuna.trial.TrialState
        for frozen in self.study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            yield self._train(self._continued(frozen), corpus)
        while (number := self._begun()) < count:
            self._seed(number)
            yield self._train(self.study.ask(), corpus)

    def _begun(self) -> int:
        return sum(trial.state != self.optuna.trial.TrialState.WAITING for trial in self.study.trials)

    def _seed(self, number: int) -> None:
        """What is proposed depends on the trials before it, and not on how often the search was stopped."""
        self.study.sampler = self.optuna.samplers.TPESampler(
            seed=self.experiment.train.seed + number, n_startup_trials=RANDOM_TRIALS
        )

    def _continued(self, frozen: Any) -> Any:
        self._seed(frozen.number)
        return self.optuna.trial.Trial(self.study, frozen._trial_id)

    def run_folder(self, number: int) -> RunFolder:
        return RunFolder(self.folder / f"trial-{number:03d}")

    def options(self, params: dict[str, Any]) -> list[str]:
        """A trial's values as options of the command line."""
        return [f"--{part.field}={params[part.field]}" for part in self.space]

    def _train(self, trial: Any, corpus: Corpus) -> Any:
        """Trains a trial to its end and tells the study; returns it as the study keeps it."""
        states = self.optuna.trial.TrialState
        params = {part.field: part.suggest(trial) for part in self.space}
        folder, began, failure = self.run_folder(trial.number), time.perf_counter(), ""
        trainer = None
        try:
            options = [f"--name={folder.path.name}", *self.options(params)]
            trainer = self._trainer(override(self.experiment, options), folder, corpus)
            with self._watched(trainer, trial):
                trainer.fit()
            told = self.study.tell(trial, self._best(folder))
        except self.optuna.TrialPruned:
            told = self.study.tell(trial, state=states.PRUNED)
        except NonFiniteLoss as error:
            failure = str(error)
            told = self.study.tell(trial, state=states.FAIL)
        finally:
            if trainer:
                trainer.checkpoints.close()
                folder.write_end(seconds=time.perf_counter() - began, failure=failure)
            # Every trial compiles anew: without this, programs of trials that are done stay in memory.
            jax.clear_caches()
        return told

    def _trainer(self, experiment: Experiment, folder: RunFolder, corpus: Corpus) -> Trainer:
        """From the trial's checkpoint where it has one."""
        begun = bool(folder.steps)
        if not begun:
            lstm = choose(experiment, corpus)
            folder.create(overwrite=True)
            folder.write_config(experiment, corpus.fingerprint, corpus.counts, lstm=dataclasses.asdict(lstm))
        else:
            lstm = choose_again(experiment, corpus, folder)
        trainer = Trainer(experiment, folder, corpus, lstm=lstm.backend)
        if begun:
            trainer.resume()
        return trainer

    @contextlib.contextmanager
    def _watched(self, trainer: Trainer, trial: Any) -> Iterator[None]:
        """Reports every evaluation to the study, which may end the trial."""
        known = set(self.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

        def look(row: dict[str, Any]) -> None:
            if row["epoch"] not in known:
                trial.report(row[f"val/{self.monitor}"], row["epoch"])
            if trial.should_prune():
                raise self.optuna.TrialPruned()

        trainer.watch = look
        # A kill may have come after an evaluation was saved and before the study knew of it.
        for row in trainer.folder.read_metrics():
            look(row)
        yield

    def _best(self, folder: RunFolder) -> float:
        values = [row[f"val/{self.monitor}"] for row in folder.read_metrics()]
        return max(values) if self.maximize else min(values)

    def ranked(self) -> list[Any]:
        """Complete trials, best first."""
        done = self.study.get_trials(deepcopy=False, states=(self.optuna.trial.TrialState.COMPLETE,))
        return sorted(done, key=lambda trial: trial.value, reverse=self.maximize)
