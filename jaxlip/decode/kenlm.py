"""Language models of KenLM (Heafield, WMT 2011), ARPA or binary, through flashlight-text."""

import itertools
import math
import os
import pathlib
import re
from collections.abc import Hashable, Iterable
from typing import Any

from jaxlip.decode.ngram import BEGIN, END, UNKNOWN
from jaxlip.errors import UserError

LN10 = math.log(10)
# KenLM is built for at most so many tokens in a gram.
MAX_ORDER = 6


def _flashlight() -> tuple[Any, Any]:
    try:
        from flashlight.lib.text.decoder.kenlm import KenLM  # pyright: ignore[reportMissingImports]
        from flashlight.lib.text.dictionary import Dictionary  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("KenLM needs flashlight-text, which is absent; run `pip install 'jaxlip[lm]'`.") from None
    return KenLM, Dictionary


class KenLm:
    """A KenLM model as a language model of strings; log-probabilities in nats (KenLM's own are log10).

    Its states are the last tokens that can matter.
    """

    def __init__(self, path: str | os.PathLike[str], words: Iterable[str] | None = None):
        """`words`: what will be asked for; everything else counts as <unk>. None: all unigrams of an ARPA file.

        Raises UserError for a file that KenLM does not read, a binary one without `words`, or without flashlight-text.
        """
        make_model, make_dictionary = _flashlight()
        order, listed = _arpa_unigrams(path)
        if words is None and listed is None:
            raise UserError(f"language model {path} is binary and does not list its words; give them as words=.")
        dictionary = make_dictionary()
        self._id_of: dict[str, int] = {}
        for word in dict.fromkeys((UNKNOWN, *((listed or ()) if words is None else words))):
            if word not in (BEGIN, END):
                self._id_of[word] = len(self._id_of)
                dictionary.add_entry(word)
        try:
            self._model = make_model(os.fspath(path), dictionary)
        except (RuntimeError, OSError) as error:
            # The first line says where in KenLM's source, the rest says why.
            why = " ".join(str(error).splitlines()[1:] or str(error).splitlines())
            raise UserError(f"language model {path} is not read by KenLM: {why}; build it again.") from None
        self._kept = order - 1
        # KenLM's state objects differ for every history, even where they are equal.
        self._object_of: dict[tuple[int, ...], Any] = {}

    def start(self) -> Hashable:
        """The state at the beginning of a sentence."""
        self._object_of.setdefault((), self._model.start(False))
        return ()

    def score(self, state: Any, word: str) -> tuple[Hashable, float]:
        """The next state, and log p of the word."""
        number = self._id_of.get(word, 0)
        after_object, log10_p = self._model.score(self._object_of[state], number)
        after = self._after(state, number)
        self._object_of.setdefault(after, after_object)
        return after, log10_p * LN10

    def finish(self, state: Any) -> float:
        """Log p of the end of the sentence."""
        return self._model.finish(self._object_of[state])[1] * LN10

    def _after(self, state: Any, number: int) -> tuple[int, ...]:
        # Shorter than what is kept: the beginning of the sentence is still part of the context.
        history = (*state, number)
        return history[max(len(history) - self._kept, 0) :]


def _arpa_unigrams(path: str | os.PathLike[str]) -> tuple[int, list[str] | None]:
    """Order and unigrams of an ARPA file; the highest order and None for a file of another kind. Raises UserError."""
    try:
        with pathlib.Path(path).open(encoding="utf-8", errors="replace", newline="\n") as file:
            if next((line for line in file if line.strip() and line[0] != "#"), "").strip() != "\\data\\":
                return MAX_ORDER, None
            header = list(itertools.takewhile(lambda line: line.strip() != "\\1-grams:", file))
            unigrams = list(itertools.takewhile(lambda line: line.strip(), file))
    except OSError as error:
        raise UserError(f"language model {path} cannot be read: {error.strerror}; check the path.") from None
    fields = [re.split("[ \t]+", line.strip(" \t\r\n")) for line in unigrams]
    return sum(line.startswith("ngram ") for line in header), [field[1] for field in fields if len(field) > 1]
