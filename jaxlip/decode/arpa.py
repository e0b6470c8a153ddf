"""N-gram models as ARPA files, the text format of SRILM and KenLM: log10 probability, gram, log10 back-off weight."""

import math
import os
import pathlib
import re
from collections.abc import Iterator

from jaxlip.decode.ngram import BEGIN, END, Gram, NGram
from jaxlip.errors import UserError

LN10 = math.log(10)


def write_arpa(model: NGram, path: str | os.PathLike[str]) -> None:
    """Writes a model in full precision. Raises UserError where the file cannot be written."""
    by_order: list[list[Gram]] = [[] for _ in range(model.order)]
    for gram in model.log_p:
        by_order[len(gram) - 1].append(gram)
    lines = ["\\data\\", *(f"ngram {n}={len(grams)}" for n, grams in enumerate(by_order, start=1))]
    for n, grams in enumerate(by_order, start=1):
        lines += ["", f"\\{n}-grams:"]
        for gram in sorted(grams):
            weight = f"\t{model.backoff[gram] / LN10:.9g}" if gram in model.backoff else ""
            lines.append(f"{model.log_p[gram] / LN10:.9g}\t{' '.join(gram)}{weight}")
    try:
        pathlib.Path(path).write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")
    except OSError as error:
        raise UserError(f"language model {path} cannot be written: {error.strerror}; choose another path.") from None


def read_arpa(path: str | os.PathLike[str]) -> NGram:
    """Reads a model. Raises UserError for a file that is damaged, with the line."""
    reader = _Reader(path)
    counts = reader.counts()
    log_p: dict[Gram, float] = {}
    backoff: dict[Gram, float] = {}
    for n, count in enumerate(counts, start=1):
        reader.section(n, count, log_p, backoff, highest=n == len(counts))
    reader.end()
    for word in (BEGIN, END):
        if (word,) not in log_p:
            raise reader.fault(f"it has no unigram {word}")
    for gram in log_p:
        # SRILM leaves out weights of 0, but what has followers is a context.
        if len(gram) > 1:
            backoff.setdefault(gram[:-1], 0.0)
    return NGram(order=len(counts), log_p=log_p, backoff=backoff)


class _Reader:
    """Lines of one file that are not empty, with their numbers for error messages."""

    def __init__(self, path: str | os.PathLike[str]):
        self._path, self._number = path, 0
        try:
            text = pathlib.Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"language model {path} cannot be read: {error.strerror}; check the path.") from None
        except UnicodeDecodeError:
            raise self.fault("it is no UTF-8 text") from None
        self._lines = self._numbered(text)

    def _numbered(self, text: str) -> Iterator[str]:
        # Not splitlines: tokens may hold Unicode's rarer line breaks.
        for self._number, line in enumerate(text.split("\n"), start=1):
            if stripped := line.strip(" \t\r"):
                yield stripped

    def fault(self, what: str) -> UserError:
        where = f", line {self._number}" if self._number else ""
        return UserError(f"language model {self._path}{where} is not ARPA: {what}; write or fetch the file again.")

    def _next(self, wanted: str) -> str:
        line = next(self._lines, None)
        if line is None:
            raise self.fault(f"the file ends before {wanted}")
        return line

    def counts(self) -> list[int]:
        """How many grams of every order the header promises; leaves the reader behind `\\1-grams:`."""
        while self._next("\\data\\") != "\\data\\":
            pass
        counts: list[int] = []
        while (line := self._next("\\1-grams:")) != "\\1-grams:":
            order, _, count = line.removeprefix("ngram ").partition("=")
            if not line.startswith("ngram ") or order.strip() != str(len(counts) + 1) or not count.strip().isdecimal():
                raise self.fault(f"{line[:60]!r} is not `ngram {len(counts) + 1}=COUNT`")
            counts.append(int(count))
        if not counts:
            raise self.fault("it counts no n-grams")
        return counts

    def section(self, n: int, count: int, log_p: dict, backoff: dict, *, highest: bool) -> None:
        """Reads the grams of one order."""
        if n > 1 and (line := self._next(f"\\{n}-grams:")) != f"\\{n}-grams:":
            raise self.fault(f"\\{n}-grams: should follow, not {line[:60]!r}; or there are more grams than promised")
        for _ in range(count):
            line = self._next(f"its {count} {n}-grams")
            fields = re.split("[ \t]+", line)
            if len(fields) != n + 1 and (highest or len(fields) != n + 2):
                raise self.fault(f"{line[:60]!r} is not a probability, {n} tokens and a back-off weight")
            gram = tuple(fields[1 : n + 1])
            if gram in log_p:
                raise self.fault(f"{' '.join(gram)[:60]!r} is there twice")
            log_p[gram] = self._number_of(fields[0], highest_value=0.0)
            if len(fields) == n + 2:
                backoff[gram] = self._number_of(fields[-1], highest_value=math.inf)

    def _number_of(self, text: str, highest_value: float) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value <= highest_value):
            raise self.fault(f"{text[:60]!r} is no log10 {'probability' if highest_value == 0 else 'weight'}")
        return value * LN10

    def end(self) -> None:
        if (line := self._next("\\end\\")) != "\\end\\":
            raise self.fault(f"\\end\\ should follow, not {line[:60]!r}; or there are more grams than promised")
