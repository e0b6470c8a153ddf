"""Pronunciations: which sounds words are made of, from a dictionary file as speech recognisers use them."""

import pathlib
import re
from collections.abc import Iterable

from jaxlip.errors import UserError

Pronunciations = dict[str, tuple[str, ...]]
"""The sounds of each word."""


def parse_pronunciations(text: str, where: str) -> Pronunciations:
    """Lines `word sound sound ...`, as in CMUdict, Kaldi and the Montreal Forced Aligner; `;;;` begins a comment.

    Of several pronunciations of a word (CMUdict writes `word(2)`) the first counts, and stress is dropped (AH0 is AH):
    it is not seen. Raises UserError for a word without sounds, naming `where` it stands.
    """
    sounds_of: Pronunciations = {}
    for number, line in enumerate(text.splitlines(), start=1):
        word, *sounds = line.split() or [";;;"]
        if word.startswith(";;;"):
            continue
        if not sounds:
            raise UserError(f"{where} line {number}: {word!r} has no sounds; expected `word sound sound ...`.")
        plain = re.sub(r"\(\d+\)$", "", word).lower()
        sounds_of.setdefault(plain, tuple(re.sub(r"(?<=[A-Z])[0-2]$", "", sound) for sound in sounds))
    return sounds_of


def read_pronunciations(path: str) -> Pronunciations:
    """Reads a dictionary file. Raises UserError."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"task.pronunciations={path} cannot be read: {reason}.") from None
    return parse_pronunciations(text, path)


def pronounced(words: Iterable[str], known: Pronunciations, where: str) -> Pronunciations:
    """The sounds of these words alone. Raises UserError naming those that are not known."""
    words = list(words)
    if missing := [word for word in words if word not in known]:
        few = ", ".join(map(repr, missing[:5]))
        raise UserError(
            f"{where} lacks {len(missing)} of {len(words)} words ({few}{', ...' if len(missing) > 5 else ''}); add a "
            "line `word sound sound ...` for each."
        )
    return {word: known[word] for word in words}
