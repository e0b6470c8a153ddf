"""What people wrote and how they felt: entries with valence and arousal, and the scales these are on."""

import dataclasses
import datetime

from jaxlip.config import Component

DIMENSIONS = ("valence", "arousal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale(Component):
    """The lowest and highest value of each of DIMENSIONS."""

    low: tuple[float, float]
    high: tuple[float, float]

    @property
    def middle(self) -> tuple[float, float]:
        return tuple((a + b) / 2 for a, b in zip(self.low, self.high, strict=True))  # type: ignore[return-value]

    @property
    def half(self) -> tuple[float, float]:
        """Half of the width."""
        return tuple((b - a) / 2 for a, b in zip(self.low, self.high, strict=True))  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One text with its labels. `split` is empty where the source does not say; `time` None where nobody knows."""

    user: str
    id: str
    text: str
    labels: tuple[float, float]
    time: datetime.datetime | None = None
    split: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A line of a file that is left out, or that is kept (`kept`) and worth knowing of."""

    line: int
    reason: str
    kept: bool = False


def by_user(entries: list[Entry]) -> dict[str, list[Entry]]:
    """The entries of every user in the order of their times, those of one time (or none) as they came."""
    users: dict[str, list[Entry]] = {}
    for entry in entries:
        users.setdefault(entry.user, []).append(entry)
    return {user: sorted(rows, key=lambda e: e.time or datetime.datetime.min) for user, rows in users.items()}
