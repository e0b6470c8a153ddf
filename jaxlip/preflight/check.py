"""What one check found: a verdict, the number it saw, and what to do about it."""

import dataclasses
from collections.abc import Sequence

VERDICTS = ("fail", "warn", "pass")
"""fail: the run would be worthless, and is stopped; warn: look at it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """`saw` says what was measured, `advice` what to do where it is not as it should be."""

    name: str
    verdict: str
    saw: str
    advice: str = ""

    def line(self) -> str:
        return f"{self.verdict:4s}  {self.name:28s}  {self.saw}{f'; {self.advice}' if self.advice else ''}"


def passed(name: str, saw: str) -> Check:
    return Check(name=name, verdict="pass", saw=saw)


def failed(name: str, saw: str, advice: str) -> Check:
    return Check(name=name, verdict="fail", saw=saw, advice=advice)


def warned(name: str, saw: str, advice: str) -> Check:
    return Check(name=name, verdict="warn", saw=saw, advice=advice)


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first few of many names."""
    more = f", ... ({len(names)} in all)" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
