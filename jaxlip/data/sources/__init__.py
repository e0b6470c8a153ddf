"""Where clips come from. A source yields Clips; it knows nothing of models, tasks or shapes."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from jaxlip.data.clips import Clip
from jaxlip.data.sources import grid, visemes


@dataclasses.dataclass(frozen=True)
class Source:
    """`vocabulary(data)` names every word that may be labelled; `read(data)` yields Clips or (name, reason) pairs."""

    vocabulary: Callable[[Any], tuple[str, ...]]
    read: Callable[[Any], Iterator[Clip | tuple[str, str]]]
    notes: Callable[[Any], list[str]] = lambda data: []
    """What people should know about how the data are read."""
    slots: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The grammar of a source whose every sentence takes one word from each of these, in order; else empty."""


SOURCES: dict[str, Source] = {
    "visemes": Source(lambda data: visemes.vocabulary(data.visemes), lambda data: visemes.read(data.visemes)),
    "grid": Source(
        lambda data: grid.WORDS,
        lambda data: grid.read(data.root, data.splits),
        lambda data: grid.notes(data.root, data.splits),
        grid.SLOTS,
    ),
}
