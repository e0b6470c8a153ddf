"""Ten plain statistics of a text, of fixed scale: nothing is fitted."""

import math
import re

import numpy as np
from jaxtyping import Float

TEXT_STATISTICS = (
    "log_words",
    "log_characters",
    "mean_word_length",
    "distinct_words",
    "first_person",
    "negations",
    "upper_case",
    "exclamations",
    "questions",
    "punctuation",
)
"""Their order. Lengths are logarithms over 5 and letters over 5; the others parts of the words or characters."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_FIRST_PERSON = frozenset("i me my mine myself i'm i've i'd i'll we us our ours".split())
_NEGATIONS = frozenset("no not never none nothing nobody nor cannot without".split())


def text_statistics(text: str) -> Float[np.ndarray, " D"]:
    """f32 [10], finite for any text."""
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    count, characters = max(len(words), 1), max(len(text), 1)

    negated = sum(word in _NEGATIONS or word.endswith("n't") for word in words)
    values = (
        math.log1p(len(words)) / 5,
        math.log1p(len(text)) / 5,
        min(sum(map(len, words)) / count / 5, 4.0),
        len(set(words)) / count,
        sum(word in _FIRST_PERSON for word in words) / count,
        negated / count,
        sum(map(str.isupper, text)) / characters,
        min(text.count("!") / count, 1.0),
        min(text.count("?") / count, 1.0),
        sum(not c.isalnum() and not c.isspace() for c in text) / characters,
    )
    return np.array(values, np.float32)
