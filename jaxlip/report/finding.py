"""A line about what is wrong or odd, in data or in a run, with the names of all concerned."""

import dataclasses
from collections.abc import Iterable

SEVERITIES = ("bad", "warn", "note")
"""bad: scores or training would be wrong; warn: look at it; note: good to know."""
SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """`names` are all clips, words, speakers or slots that `text` is about; `advice` are options to try next."""

    kind: str
    severity: str
    text: str
    names: tuple[str, ...] = ()
    advice: str = ""

    def line(self) -> str:
        """The text with a few of the names."""
        more = f", ... ({len(self.names)} in all)" if len(self.names) > SHOWN else ""
        return f"{self.text}: {', '.join(self.names[:SHOWN])}{more}" if self.names else self.text


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def count_of(number: int, singular: str, plural: str = "") -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
