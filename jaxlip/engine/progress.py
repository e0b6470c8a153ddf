"""What training says while it runs: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm


def format_seconds(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


@runtime_checkable
class Voice(Protocol):
    """Where a run says how it goes."""

    @property
    def eta(self) -> str: ...

    def say(self, line: str) -> None: ...


class Progress:
    """A bar over all steps if stderr is a terminal (and a `bar` is wanted); a line an epoch on stdout in any case."""

    def __init__(self, *, done: int, total: int, bar: bool = True):
        self.start = time.perf_counter()
        self.done = self.first = done
        self.total = total
        self.bar = tqdm(
            total=total,
            initial=done,
            unit="step",
            disable=not bar or not sys.stderr.isatty(),
            dynamic_ncols=True,
            leave=False,
        )

    def advance(self, steps: int, **shown: Any) -> None:
        self.done += steps
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(steps)

    def say(self, line: str) -> None:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

    @property
    def eta(self) -> str:
        spent = time.perf_counter() - self.start
        return format_seconds(spent / max(self.done - self.first, 1) * (self.total - self.done))

    def close(self) -> None:
        self.bar.close()
