"""Where clips come from. A source finds clips and reads any one of them; it knows no models, tasks or shapes."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxlip.data.clips import Clip, ClipRef, DamagedClip
from jaxlip.data.pronunciations import Pronunciations
from jaxlip.data.sources import (
    extracted,
    fingerspelling,
    glosses,
    grid,
    lrs,
    lrw,
    manifest,
    phoenix,
    prepared,
    visemes,
)
from jaxlip.holistic.layout import HAND_IDS, IDS

Slots = tuple[tuple[str, tuple[str, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Source:
    """`vocabulary(data)` names every word that may be labelled; `find(data)` yields a ClipRef a clip, in the same order
    each time; `load(data, ref)` reads one, or raises DamagedClip."""

    vocabulary: Callable[[Any], tuple[str, ...]]
    find: Callable[[Any], Iterable[ClipRef]]
    load: Callable[[Any, ClipRef], Clip]
    notes: Callable[[Any], list[str]] = lambda data: []
    """What people should know about how the data are read."""
    slots: Callable[[Any], Slots] = lambda data: ()
    """The grammar of a source whose every sentence takes one word from each of these, in order; else empty."""
    pronunciations: Callable[[Any], Pronunciations] = lambda data: {}
    """The sounds of its words, where a source knows them."""
    fps: float = 25.0
    """Frames a second of its clips: what is to be read by a model that was trained on them must be brought to it."""

    def read(self, data: Any) -> Iterator[tuple[ClipRef, Clip | str]]:
        """Every clip, or the reason why it cannot be used."""
        for ref in self.find(data):
            try:
                yield ref, self.load(data, ref)
            except DamagedClip as damage:
                yield ref, str(damage)


SOURCES: dict[str, Source] = {
    "visemes": Source(
        vocabulary=lambda data: visemes.vocabulary(data.visemes),
        find=lambda data: visemes.find(data.visemes),
        load=lambda data, ref: visemes.load(data.visemes, ref),
        pronunciations=lambda data: visemes.LEXICON,
    ),
    "grid": Source(
        vocabulary=lambda data: grid.WORDS,
        find=grid.find,
        load=grid.load,
        notes=grid.notes,
        slots=lambda data: grid.SLOTS,
        pronunciations=lambda data: grid.PRONUNCIATIONS,
    ),
    "lrw": Source(vocabulary=lrw.vocabulary, find=lrw.find, load=lrw.load),
    "lrs": Source(vocabulary=lrs.vocabulary, find=lrs.find, load=lrs.load, notes=lrs.notes),
    "manifest": Source(vocabulary=manifest.vocabulary, find=manifest.find, load=manifest.load, notes=manifest.notes),
    "prepared": Source(
        vocabulary=prepared.vocabulary,
        find=prepared.find,
        load=prepared.load,
        notes=prepared.notes,
        slots=prepared.slots,
        pronunciations=lambda data: SOURCES[prepared.origin(data)].pronunciations(data),
    ),
    "extracted": Source(vocabulary=lambda data: (), find=extracted.find, load=extracted.load),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignSource(Source):
    """A source of signing, whose vocabulary is that of its training clips."""

    ids: tuple[int, ...] = IDS
    """Holistic points of its clips."""
    unknown: Callable[[Any], tuple[str, ...]] = lambda data: ()
    """Words of other splits that are not in the vocabulary."""


def _one_letter(data: Any) -> Slots:
    return (("letter", fingerspelling.LETTERS),) if data.fingerspelling.isolated else ()


SIGN_SOURCES: dict[str, SignSource] = {
    "glosses": SignSource(vocabulary=glosses.vocabulary, find=glosses.find, load=glosses.load),
    "phoenix": SignSource(
        vocabulary=phoenix.vocabulary,
        find=phoenix.find,
        load=phoenix.load,
        notes=phoenix.notes,
        unknown=phoenix.unknown,
    ),
    "fingerspelling": SignSource(
        vocabulary=fingerspelling.vocabulary,
        find=fingerspelling.find,
        load=fingerspelling.load,
        notes=fingerspelling.notes,
        slots=_one_letter,
        ids=HAND_IDS,
    ),
}
