"""Answers as subtitles: which words stand on the picture at a time, and which of them is being spoken."""

import dataclasses
from collections.abc import Sequence

from jaxlip.decode.times import TimedWord
from jaxlip.tasks.answer import Answer

# A subtitle ends at a pause of so many seconds, or before it has so many letters; it stays on for a while.
PAUSE = 1.0
LETTERS = 40
BEFORE, AFTER = 0.3, 0.8
GAP = 0.2


@dataclasses.dataclass(frozen=True)
class Cue:
    """One subtitle: its words, and from when to when (seconds) it is seen."""

    words: tuple[TimedWord, ...]
    start: float
    end: float

    def spoken_at(self, time: float) -> TimedWord | None:
        """The word that is being spoken: the last one that has begun, also in the short gap before the next."""
        begun = [word for word in self.words if word.start <= time < word.end + GAP]
        return begun[-1] if begun else None


def cues(answer: Answer) -> list[Cue]:
    """The subtitles of an answer, one after the other, in a row of their own each."""
    groups: list[list[TimedWord]] = []
    for word in answer.words:
        last = groups[-1] if groups else None
        letters = sum(len(w.text) + 1 for w in last) if last else 0
        if last and word.start - last[-1].end < PAUSE and letters + len(word.text) <= LETTERS:
            last.append(word)
        else:
            groups.append([word])
    found = [Cue(tuple(group), max(group[0].start - BEFORE, 0.0), group[-1].end + AFTER) for group in groups]
    return [_until(cue, later) for cue, later in zip(found, [*found[1:], None], strict=False)]


def _until(cue: Cue, later: Cue | None) -> Cue:
    """A cue that ends when the next begins."""
    return cue if later is None else dataclasses.replace(cue, end=min(cue.end, later.start))


def at(subtitles: Sequence[Cue], time: float) -> Cue | None:
    """The subtitle that is seen at a time."""
    return next((cue for cue in subtitles if cue.start <= time < cue.end), None)
