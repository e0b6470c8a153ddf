"""Times and confidences of words, on posteriors whose alignment is plain to see, and against enumeration."""

import itertools

import numpy as np
import pytest

from jaxlip.data.vocab import Vocabulary
from jaxlip.decode.times import word_times

SMALL = Vocabulary.of_characters(["ab c"])


def posteriors_of(path, p=0.9, size=5):
    """Frames [T, K] in which each token of the path has probability p, the rest the others."""
    p_TK = np.full((len(path), size), (1 - p) / (size - 1))
    p_TK[np.arange(len(path)), path] = p
    return np.log(p_TK)


def path_of(text):
    """One character a frame, `-` for the blank."""
    return [("-", *SMALL.tokens).index(character) for character in text]


def test_times_by_hand():
    log_p_BTK = posteriors_of(path_of("-aab-  c-"))[None]
    first, second = word_times(log_p_BTK, np.ones((1, 9), bool), [SMALL.encode("ab c")], SMALL, fps=25.0)[0]
    assert vars(first) == pytest.approx({"text": "ab", "start": 1 / 25, "end": 4 / 25, "confidence": 0.9})
    assert vars(second) == pytest.approx({"text": "c", "start": 7 / 25, "end": 8 / 25, "confidence": 0.9})


def test_a_word_is_as_sure_as_its_least_sure_token():
    log_p_TK = posteriors_of(path_of("a-b-"))
    log_p_TK[2] = posteriors_of(path_of("b"), p=0.4)[0]
    (word,) = word_times(log_p_TK[None], np.ones((1, 4), bool), [SMALL.encode("ab")], SMALL, fps=1.0)[0]
    assert (word.start, word.end, word.confidence) == (0, 3, pytest.approx(0.4))


def test_frames_that_are_not_real_take_time_but_hold_nothing():
    log_p_BTK = posteriors_of(path_of("ca-bbc"))[None]
    frames_BT = np.array([[False, True, True, False, True, False]])
    (word,) = word_times(log_p_BTK, frames_BT, [SMALL.encode("ab")], SMALL, fps=10.0)[0]
    assert (word.text, word.start, word.end) == ("ab", pytest.approx(0.1), pytest.approx(0.5))


def test_every_clip_has_its_own_rate_and_length():
    log_p_BTK = np.stack([posteriors_of(path_of(text)) for text in ("a--c", "-bb-", "----")])
    transcripts = [SMALL.encode("ac"), SMALL.encode("b"), ()]
    first, second, third = word_times(log_p_BTK, np.ones((3, 4), bool), transcripts, SMALL, fps=[25.0, 50.0, 30.0])
    assert [(w.text, w.start, w.end) for w in first] == [("ac", 0, pytest.approx(4 / 25))]
    assert [(w.text, w.start, w.end) for w in second] == [("b", pytest.approx(1 / 50), pytest.approx(3 / 50))]
    assert third == []


def test_times_are_those_of_the_likeliest_alignment():
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary.of_words(["x y z"])
    log_p_BTK = np.stack([posteriors_of(rng.integers(0, 4, 6), 0.4, 4) for _ in range(8)])
    log_p_BTK += 0.1 * rng.normal(size=log_p_BTK.shape)
    transcripts = [tuple(rng.integers(1, 4, rng.integers(1, 4)).tolist()) for _ in range(8)]
    timed = word_times(log_p_BTK, np.ones((8, 6), bool), transcripts, vocabulary, fps=1.0)
    for log_p_TK, tokens, words in zip(log_p_BTK, transcripts, timed, strict=True):
        paths = [path for path in itertools.product(range(4), repeat=6) if collapsed(path) == tokens]
        best = max(paths, key=lambda path: sum(log_p_TK[t, k] for t, k in enumerate(path)))
        runs = [(k, [t for t, _ in run]) for k, run in itertools.groupby(enumerate(best), lambda pair: pair[1])]
        want = [(vocabulary.decode([k]), frames[0], frames[-1] + 1) for k, frames in runs if k]
        assert [(w.text, w.start, w.end) for w in words] == want
        assert all(0 <= w.confidence <= 1 for w in words)


def collapsed(path):
    return tuple(k for k, _ in itertools.groupby(path) if k)


def test_transcripts_that_do_not_fit_are_refused():
    log_p_BTK = posteriors_of(path_of("ab"))[None]
    with pytest.raises(ValueError, match="transcript 0 of 2 tokens has no path in its 2 real frames"):
        word_times(log_p_BTK, np.ones((1, 2), bool), [SMALL.encode("aa")], SMALL, fps=25.0)
    with pytest.raises(ValueError, match="2 transcripts for 1 clips"):
        word_times(log_p_BTK, np.ones((1, 2), bool), [(), ()], SMALL, fps=25.0)
    assert word_times(log_p_BTK[:0], np.ones((0, 2), bool), [], SMALL, fps=25.0) == []
