"""Processes that answer what they are sent, each by a pipe of its own, so that one that dies is noticed and says how.

Not a pool of concurrent.futures: there, one killed process breaks the whole pool, and where another is being started
meanwhile, the pool waits for ever (CPython 3.11).
"""

import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

CHUNK = 8
"""Tasks that a process is sent at a time."""


class Died(Exception):
    """A process ended without an answer; the message says how."""


class Worker:
    """A process that runs `serve(connection, *arguments)`. Spawned, since JAX's threads do not survive a fork."""

    def __init__(self, serve: Callable[..., None], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
        with _interrupts_ignored():
            self.process.start()
        theirs.close()

    def send(self, message: Any) -> None:
        with contextlib.suppress(OSError):
            # A process that is gone already shows when its pipe is read.
            self.connection.send(message)

    def receive(self) -> Any:
        """Waits for a message. Raises Died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise Died(how) from None

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """What starts inside ignores Ctrl-C from its first moment on: the parent decides what that means."""
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may say what signals do.
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


Results = dict[int, list[Any] | Exception | None]
"""Of an iteration's parts by number: what came of them, None while they are worked on."""


class OrderedMap:
    """`function` of tasks, in their order, from processes that live as long as this context does."""

    def __init__(self, function: Callable[[Any], Any], workers: int):
        self._function, self._workers = function, workers
        self._crew: list[Worker] = []
        # Whoever works, and where its results are to go: several iterations may be under way at a time.
        self._busy: dict[Any, tuple[Worker, Results]] = {}

    def __enter__(self) -> "OrderedMap":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._crew:
            worker.stop()

    def __call__(self, tasks: Iterable[Any], *, ahead: int) -> Iterator[Any]:
        """Up to `ahead` tasks a process are worked on before the first result is taken. Raises what the function
        raises, and Died."""
        remaining = iter(tasks)
        parts = enumerate(iter(lambda: list(itertools.islice(remaining, CHUNK)), []))
        results: Results = {}
        most = max(1, ahead * self._workers // CHUNK)
        for due in itertools.count():
            self._hear(wait=False)
            self._send(parts, results, most)
            while results.get(due) is None:
                if due not in results and len(self._busy) < self._workers:
                    # Somebody is idle, so there was nothing left to send.
                    return
                self._hear(wait=True)
                self._send(parts, results, most)
            part = results.pop(due)
            if isinstance(part, Exception):
                raise part
            yield from part or ()

    def _send(self, parts: Iterator[tuple[int, list[Any]]], results: Results, most: int) -> None:
        """Gives whoever is idle a part, while there are parts and fewer than `most` wait for being taken."""
        while len(self._crew) < self._workers:
            self._crew.append(Worker(_serve, self._function))
        for worker in self._crew:
            if worker.connection in self._busy or len(results) >= most:
                continue
            if (part := next(parts, None)) is None:
                return
            worker.send(part)
            results[part[0]] = None
            self._busy[worker.connection] = (worker, results)

    def _hear(self, *, wait: bool) -> None:
        for connection in multiprocessing.connection.wait(list(self._busy), None if wait else 0):
            worker, results = self._busy[connection]
            number, found = worker.receive()
            del self._busy[connection]
            results[number] = found


def _serve(connection: Any, function: Callable[[Any], Any]) -> None:
    """Answers every (number, tasks) with (number, results), or with the exception that one of them raised."""
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            number, tasks = connection.recv()
            try:
                found: list[Any] | Exception = [function(task) for task in tasks]
            except Exception as error:
                error.add_note(traceback.format_exc())
                found = error
            connection.send((number, found))
