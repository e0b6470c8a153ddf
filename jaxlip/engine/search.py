"""A search for better hyper-parameters: trials that Optuna proposes, each a run of its own, in a study on disk.

The folder of a search holds the config and space it began with, Optuna's journal, and a run folder a trial. Whatever
ends a search, the next one goes on where it was: with the trials that were running, from their checkpoints. Some are
proposed at a time, and those of them that differ in numbers alone are trained in one program.
"""

import dataclasses
import fcntl
import json
import pathlib
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from jaxlip.config import Experiment, differences, from_json, override, to_json
from jaxlip.data.batches import Corpus
from jaxlip.engine.loop import Trainer
from jaxlip.engine.lstm_choice import choose_together
from jaxlip.engine.own_numbers import alike
from jaxlip.engine.population import fit_all
from jaxlip.engine.run import RunFolder
from jaxlip.engine.space import Space
from jaxlip.errors import UserError
from jaxlip.metrics.direction import higher_is_better

FREE = ("data.root", "data.splits", "data.landmarks", "data.resident_gib", "targets")
"""Fields that may change when a search goes on."""
RANDOM_TRIALS = 8
"""Trials, the config's own among them, before proposals learn from results (tree-structured Parzen estimators, Bergstra
et al. 2011) and before trials are pruned."""
UNJUDGED = 0.25
"""Part of a trial's epochs before it is compared with the others: first epochs say little of where it will end."""


def optuna() -> Any:
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("searching needs Optuna: pip install 'jaxlip[search]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Search:
    """A study on disk; made anew or found again."""

    def __init__(self, experiment: Experiment, space: Space, folder: pathlib.Path, *, pruned: bool, together: int = 1):
        """`pruned`: whether trials that fall behind the median end early; `together`: how many are proposed and, if
        they differ in numbers alone, trained at once. Raises UserError if the folder holds a search of something else,
        or one that is going on."""
        self.experiment, self.space, self.folder, self.together = experiment, space, folder, together
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
            pruner=self.optuna.pruners.MedianPruner(
                n_startup_trials=RANDOM_TRIALS, n_warmup_steps=int(UNJUDGED * experiment.train.epochs) + 1
            )
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
        while batch := self._batch(count):
            made = [self._experiment(trial) for trial in batch]
            for group in alike(made, corpus.spec):
                yield from self._train([batch[number] for number in group], [made[number] for number in group], corpus)

    def _batch(self, count: int) -> list[Any]:
        """The trials that are proposed before any of them is trained: those that were running, and new ones up to a
        multiple of `together`, so that a stop changes nothing."""
        running = self.study.get_trials(deepcopy=False, states=(self.optuna.trial.TrialState.RUNNING,))
        batch = [self._propose(self._continued(frozen)) for frozen in running]
        first = running[0].number if running else self._begun()
        end = min((first // self.together + 1) * self.together, count)
        while (number := self._begun()) < end:
            self._seed(number)
            batch.append(self._propose(self.study.ask()))
        return batch

    def _begun(self) -> int:
        return sum(trial.state != self.optuna.trial.TrialState.WAITING for trial in self.study.trials)

    def _seed(self, number: int) -> None:
        """What is proposed depends on the trials before it, and not on how often the search was stopped."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self.optuna.exceptions.ExperimentalWarning)
            self.study.sampler = self.optuna.samplers.TPESampler(
                seed=self.experiment.train.seed + number,
                n_startup_trials=RANDOM_TRIALS,
                # Trials that are trained together keep away from each other.
                constant_liar=self.together > 1,
            )

    def _continued(self, frozen: Any) -> Any:
        self._seed(frozen.number)
        return self.optuna.trial.Trial(self.study, frozen._trial_id)

    def _propose(self, trial: Any) -> Any:
        for part in self.space:
            part.suggest(trial)
        return trial

    def run_folder(self, number: int) -> RunFolder:
        return RunFolder(self.folder / f"trial-{number:03d}")

    def options(self, params: dict[str, Any]) -> list[str]:
        """A trial's values as options of the command line."""
        return [f"--{part.field}={params[part.field]}" for part in self.space]

    def _experiment(self, trial: Any) -> Experiment:
        name = self.run_folder(trial.number).path.name
        return override(self.experiment, [f"--name={name}", *self.options(trial.params)])

    def _train(self, trials: Sequence[Any], experiments: Sequence[Experiment], corpus: Corpus) -> Iterator[Any]:
        """Trains trials of one program to their ends and tells the study; yields them as the study keeps them."""
        states = self.optuna.trial.TrialState
        trainers: list[Trainer] = []
        failed: dict[str, str] = {}
        began = time.perf_counter()
        try:
            trainers.extend(self._trainers([self.run_folder(trial.number) for trial in trials], experiments, corpus))
            for trainer, trial in zip(trainers, trials, strict=True):
                self._watch(trainer, trial)
            failed = fit_all(trainers)
        finally:
            for trainer in trainers:
                trainer.checkpoints.close()
                failure = failed.get(trainer.experiment.name, "")
                trainer.folder.write_end(seconds=time.perf_counter() - began, failure=failure)
            # Every trial compiles anew: without this, programs of trials that are done stay in memory.
            jax.clear_caches()
        for trainer, trial in zip(trainers, trials, strict=True):
            if trainer.experiment.name in failed:
                self.study.tell(trial, state=states.FAIL)
            elif not trainer.stopped:
                self.study.tell(trial, self._best(trainer.folder))
            yield self.study.trials[trial.number]

    def _trainers(
        self, folders: Sequence[RunFolder], experiments: Sequence[Experiment], corpus: Corpus
    ) -> Iterator[Trainer]:
        """From the trials' checkpoints where they have one."""
        pairs = list(zip(folders, experiments, strict=True))
        begun = [bool(folder.steps) for folder in folders]
        lstm = choose_together(pairs, begun, corpus)
        first = None
        for (folder, experiment), again in zip(pairs, begun, strict=True):
            if not again:
                folder.create(overwrite=True)
                folder.write_config(experiment, corpus.fingerprint, corpus.counts, lstm=dataclasses.asdict(lstm))
            trainer = Trainer(experiment, folder, corpus, like=first, lstm=lstm.backend)
            first = first or trainer
            if again:
                trainer.resume()
            yield trainer

    def _watch(self, trainer: Trainer, trial: Any) -> None:
        """Reports every evaluation to the study, which may end the trial."""
        known = set(self.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

        def look(row: dict[str, Any]) -> None:
            if row["epoch"] not in known:
                trial.report(row[f"val/{self.monitor}"], row["epoch"])
            if trial.should_prune():
                # Told at once: what is told of trials that are trained with it must not change the verdict.
                self.study.tell(trial, state=self.optuna.trial.TrialState.PRUNED)
                trainer.stopped = "behind the median of the other trials"

        trainer.watch = look
        if not trainer.ended:
            # A kill may have come after an evaluation was saved and before the study knew of it.
            for row in trainer.folder.read_metrics():
                if not trainer.stopped:
                    look(row)

    def _best(self, folder: RunFolder) -> float:
        values = [row[f"val/{self.monitor}"] for row in folder.read_metrics()]
        return max(values) if self.maximize else min(values)

    def ranked(self) -> list[Any]:
        """Complete trials, best first."""
        done = self.study.get_trials(deepcopy=False, states=(self.optuna.trial.TrialState.COMPLETE,))
        return sorted(done, key=lambda trial: trial.value, reverse=self.maximize)
