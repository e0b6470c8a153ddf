"""A batch of videos over several processes: one that dies costs at most its own video, and a signal stops them all."""

import contextlib
import dataclasses
import multiprocessing.connection
import os
import pathlib
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from jaxlip.data.clips import DamagedClip
from jaxlip.data.crew import Died, Worker
from jaxlip.data.extract import Extraction, Extractor
from jaxlip.data.find_videos import Source
from jaxlip.data.recording import part_of
from jaxlip.errors import Interrupted, UserError

# A video whose process died is tried once more: it may have been another's memory that ran out.
TRIES = 2


@dataclasses.dataclass(frozen=True)
class Job:
    source: Source
    target: pathlib.Path


class _Worker(Worker):
    """A process that extracts one video at a time."""

    def __init__(self, options: Extraction, model: pathlib.Path):
        super().__init__(_serve, options, model)
        self.job: Job | None = None

    def start(self, job: Job) -> None:
        self.job = job
        self.send((job.source.path, job.target))

    def stop(self) -> None:
        super().stop()
        if self.job:
            part_of(self.job.target).unlink(missing_ok=True)


def _serve(connection: Any, options: Extraction, model: pathlib.Path) -> None:
    """Extracts what it is sent, and answers ("frames", count, part), then ("done", report) or ("failed", reason)."""
    # MediaPipe and TFLite write notes to the bar's line; what goes wrong comes back as a message.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with Extractor(options, model) as extractor, contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            source, target = connection.recv()
            connection.send(_extract(extractor, source, target, lambda *said: connection.send(("frames", *said))))


def _extract(extractor: Extractor, source: pathlib.Path, target: pathlib.Path, progress: Any) -> tuple[str, Any]:
    try:
        return "done", extractor.extract(source, target, progress)
    except UserError as error:
        return "unusable", str(error)
    except DamagedClip as damage:
        return "failed", str(damage)
    except BrokenPipeError:
        raise
    except OSError as error:
        # Of a renaming, the new name: the old one is our own.
        path = error.filename2 or error.filename
        where = f" ({os.fsencode(path).decode('utf-8', 'replace')})" if path else ""
        return "failed", f"cannot be read or written: {error.strerror or error}{where}"
    except Exception as error:
        # Whatever a codec or MediaPipe comes up with: this video's reason, not the batch's end.
        return "failed", f"{type(error).__name__}: {error}"


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int,
    options: Extraction,
    model: pathlib.Path,
    on_frames: Callable[[Job, int, float], None],
) -> Generator[tuple[Job, dict[str, Any]], None, None]:
    """Yields (job, report) as videos are done; the report of one that failed has `status` "failed" and a `reason`.

    Raises UserError if the extras are not installed, and Interrupted on SIGINT or SIGTERM, with no process left.
    """
    waiting = list(reversed(jobs))
    tries = dict.fromkeys(jobs, 0)
    crew: list[_Worker] = []
    try:
        with _signals_raise():
            while waiting or any(worker.job for worker in crew):
                while waiting and len(crew) < workers:
                    crew.append(_Worker(options, model))
                for worker in crew:
                    if worker.job is None and waiting:
                        worker.start(waiting.pop())
                        tries[worker.job] += 1  # type: ignore[index]
                for worker in _ready(crew):
                    job = worker.job
                    assert job is not None
                    kind, *content = _receive(worker)
                    if kind == "frames":
                        on_frames(job, *content)
                        continue
                    if kind == "died":
                        crew.remove(worker)
                        worker.stop()
                        if tries[job] < TRIES:
                            waiting.append(job)
                            continue
                    if kind == "unusable":
                        raise UserError(content[0])
                    worker.job = None
                    yield job, content[0] if kind == "done" else {"status": "failed", "reason": content[0]}
    finally:
        for worker in crew:
            worker.stop()


def _ready(crew: list[_Worker]) -> list[_Worker]:
    busy = {worker.connection: worker for worker in crew if worker.job}
    return [busy[connection] for connection in multiprocessing.connection.wait(list(busy))]  # type: ignore[index]


def _receive(worker: _Worker) -> tuple[Any, ...]:
    try:
        return worker.receive()
    except Died as death:
        return "died", f"its process {death}, {TRIES} times"


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGINT and SIGTERM raise Interrupted while jobs run."""

    def stop(number: int, _: Any) -> None:
        raise Interrupted(number, "stopped; what is done is kept, and the same command goes on from there.")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
