"""A run's folder: runs/<name>/ with config.json, metrics.jsonl, checkpoints/, tensorboard/, and evaluate's files."""

import contextlib
import json
import pathlib
import shutil
from typing import Any

from jaxlip.config import Experiment, to_json
from jaxlip.errors import UserError


class RunFolder:
    """Reads and writes a run's files; of several hosts, one `writes`. Creating one touches nothing."""

    def __init__(self, path: pathlib.Path, *, writes: bool = True):
        self.path = path
        self.writes = writes
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"
        self.ended = path / "ended.json"
        self.report = path / "report.html"

    @classmethod
    def find(cls, run: str, runs: pathlib.Path, *, trained: bool = True) -> "RunFolder":
        """A run by name under `runs`, or by path. Raises UserError if there is none or, if it is to be `trained`, it
        has no checkpoint."""
        for path in (runs / run, pathlib.Path(run)):
            if (path / "config.json").is_file():
                folder = cls(path)
                if trained and not folder.steps:
                    raise UserError(f"run {path} has no checkpoint yet; train it first.")
                return folder
        known = ", ".join(sorted(p.parent.name for p in runs.glob("*/config.json"))) or "none"
        raise UserError(f"there is no run {run!r}, neither under {runs} nor as a path; runs there: {known}.")

    @property
    def steps(self) -> list[int]:
        """Steps of finished checkpoints."""
        return sorted(int(p.name) for p in self.checkpoints.glob("*") if p.name.isdigit())

    def check_free(self, *, overwrite: bool) -> None:
        """Raises UserError if the folder holds a run and `overwrite` is not set, or anything that is no run's."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file; --name NEW or --runs FOLDER makes room for the run.")
        if self.steps and not overwrite:
            raise UserError(
                f"{self.path} already holds a run (step {self.steps[-1]}): --resume continues it, --name NEW starts "
                "another, --overwrite replaces it."
            )
        foreign = [path.name for path in self.path.glob("*") if not self._is_own(path)]
        if foreign:
            raise UserError(f"{self.path} holds files that no run made ({foreign[0]}, ...); use --name NEW.")

    def create(self, *, overwrite: bool) -> None:
        """Makes the folder, without what an earlier run left in it. Raises UserError as `check_free` does."""
        self.check_free(overwrite=overwrite)
        if not self.writes:
            return
        try:
            if self.path.is_dir():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"the run folder {self.path} cannot be made: {error.strerror}.") from None

    def _is_own(self, path: pathlib.Path) -> bool:
        own = {self.config, self.metrics, self.checkpoints, self.tensorboard, self.ended}
        scores = path.name.startswith("scores_") and path.suffix == ".json"
        return path in own or scores or path.suffix in (".csv", ".png", ".html")

    def write_config(self, experiment: Experiment, fingerprint: str, counts: dict[str, Any], **more: Any) -> None:
        """`more` is what else a report should know of the run's beginning: its environment, what preflight said."""
        saved = {"experiment": to_json(experiment), "data": {"fingerprint": fingerprint, **counts}, **more}
        if self.writes:
            self.config.write_text(json.dumps(saved, indent=1) + "\n")

    def read_config(self) -> dict[str, Any]:
        """What `write_config` wrote. Raises UserError where it cannot be read."""
        try:
            return json.loads(self.config.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{self.config} cannot be read: {error}.") from None

    def note_config(self, **more: Any) -> None:
        """Replaces parts of the config by name."""
        self.config.write_text(json.dumps({**self.read_config(), **more}, indent=1) + "\n")

    def scores(self, split: str) -> pathlib.Path:
        """The file of a split's scores."""
        return self.path / f"scores_{split}.json"

    def write_end(self, *, seconds: float, failure: str) -> None:
        """How training ended: after how long, over all resumptions, and what it failed of, empty if it did not."""
        seconds += self.read_end().get("seconds", 0.0)
        if self.writes:
            self.ended.write_text(json.dumps({"seconds": round(seconds, 1), "failure": failure}) + "\n")

    def read_end(self) -> dict[str, Any]:
        """Empty where training has not ended."""
        return json.loads(self.ended.read_text()) if self.ended.is_file() else {}

    def events(self) -> Any:
        """A TensorBoard writer, to be used in a `with` statement."""
        if not self.writes:
            return _NoEvents()
        # Imported here: the core must import without it.
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(self.tensorboard), flush_secs=5)

    def read_metrics(self) -> list[dict[str, Any]]:
        """One dict an evaluation, oldest first."""
        if not self.metrics.is_file():
            return []
        rows = [_parse_row(line) for line in self.metrics.read_text().splitlines()]
        return [row for row in rows if row is not None]

    def rewind_metrics(self, step: int) -> None:
        """Drops what was logged after `step`, so that a resumed run does not log it twice."""
        if not self.writes:
            return
        lines = self.metrics.read_text().splitlines() if self.metrics.is_file() else []
        kept = [line for line in lines if (row := _parse_row(line)) is not None and row["step"] <= step]
        self.metrics.write_text("".join(f"{line}\n" for line in kept))

    def append_metrics(self, row: dict[str, Any]) -> None:
        if not self.writes:
            return
        with self.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")


class _NoEvents(contextlib.nullcontext):
    """The events of a host that does not write."""

    def __init__(self):
        super().__init__(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        pass


def _parse_row(line: str) -> dict[str, Any] | None:
    """A logged row; None for a line that a kill cut short (its step is run and logged again)."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and "step" in row else None
