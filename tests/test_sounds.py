"""Reading sounds: dictionaries of pronunciations, the vocabulary made of one, and every decoder over it."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from tiny import get_sentences
from trees import csv_tree

from jaxlip.config import from_json, to_json
from jaxlip.data.pronunciations import parse_pronunciations, pronounced
from jaxlip.data.sentences import stack_tokens
from jaxlip.data.sources import grid
from jaxlip.data.sources.visemes import Visemes
from jaxlip.data.vocab import UnknownToken, Vocabulary
from jaxlip.decode import automaton, ngram
from jaxlip.decode.beam import beam_search
from jaxlip.decode.lm import WordLm
from jaxlip.decode.times import word_times
from jaxlip.errors import UserError
from jaxlip.models.heads import SentenceLogits
from jaxlip.tasks.ctc import spelled
from jaxlip.tasks.sentence import Sentence
from jaxlip.tasks.transcribe import Decoding, readers

FEW = {"b": ("B", "IY"), "bin": ("B", "IH", "N"), "in": ("IH", "N"), "an": ("AE", "N")}


def test_dictionaries_as_cmudict_writes_them():
    text = ";;; a comment\nBIN  B IH1 N\nbin(2)  B AX0 N\n\nzoo Z UW\tX0\n"
    assert parse_pronunciations(text, "here") == {"bin": ("B", "IH", "N"), "zoo": ("Z", "UW", "X")}
    with pytest.raises(UserError, match="here line 2: 'b' has no sounds"):
        parse_pronunciations("a EY\nb\n", "here")


def test_words_without_a_pronunciation_are_named():
    with pytest.raises(UserError, match=r"FILE lacks 2 of 3 words \('x', 'y'\)"):
        pronounced(("b", "x", "y"), FEW, "FILE")


def test_both_ways():
    vocabulary = Vocabulary.of_sounds(FEW)
    assert vocabulary.tokens == (" ", "AE", "B", "IH", "IY", "N")
    ids = vocabulary.encode("Bin  b")
    assert [vocabulary.tokens[i - 1] for i in ids] == ["B", "IH", "N", " ", "B", "IY"]
    assert vocabulary.decode(ids) == "bin b"
    assert vocabulary.encode("") == () and vocabulary.decode(()) == ""
    assert from_json(to_json(vocabulary)) == vocabulary


def test_sounds_that_make_no_word_stay_legible():
    vocabulary = Vocabulary.of_sounds(FEW)
    n, space, b = (vocabulary.tokens.index(token) + 1 for token in ("N", " ", "B"))
    assert vocabulary.decode([space, n, b, space, space, n]) == "/N.B/ /N/"


@pytest.mark.parametrize(
    ("sounds_of", "message"),
    [
        ({"to": ("T", "UW"), "two": ("T", "UW")}, "'to' and 'two' sound alike"),
        ({"Bin": ("B",)}, "'Bin': not one word as the rules write it, 'bin'"),
        ({}, "there are no texts"),
    ],
)
def test_what_could_not_be_told_apart_is_refused(sounds_of, message):
    with pytest.raises(UserError, match=message):
        Vocabulary.of_sounds(sounds_of)


def test_unknown_words_are_named():
    with pytest.raises(UnknownToken, match="word 'zoo' of text 'bin zoo'"):
        Vocabulary.of_sounds(FEW).encode("bin zoo")


def test_every_word_of_grid_has_sounds_of_its_own():
    vocabulary = Vocabulary.of_sounds(grid.PRONUNCIATIONS)
    assert set(grid.PRONUNCIATIONS) == set(grid.WORDS)
    text = " ".join(grid.WORDS)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    # Letters that are spelled share their sounds with words.
    assert set(vocabulary.encode("b e")) < set(vocabulary.encode("bin green"))


def test_the_built_in_words_are_read_as_visemes():
    vocabulary = Vocabulary.of_sounds(get_sentences().data.pronunciations())  # type: ignore[attr-defined]
    assert len(vocabulary) == 16 and vocabulary.decode(vocabulary.encode("stop post")) == "stop post"


def clear(vocabulary, text):
    """Log-probabilities [1, T, K] that spell a text clearly."""
    tokens = stack_tokens([vocabulary.encode(text)])
    frames_BT = np.ones((1, 2 * tokens.labels_BN.shape[1]), bool)
    logits_BTK = spelled(tokens, frames_BT, len(vocabulary))
    return logits_BTK - np.log(np.exp(logits_BTK).sum(axis=-1, keepdims=True)), frames_BT


def test_a_word_model_scores_words_not_sounds():
    vocabulary = Vocabulary.of_sounds(FEW)
    model = ngram.fit([["bin", "b"], ["bin", "an"], ["bin", "b"]], 2, tuple(FEW))
    log_p_BTK, frames_BT = clear(vocabulary, "bin b")
    scorer = WordLm(model, vocabulary, weight=1.0)
    best = beam_search(log_p_BTK, frames_BT, scorer=scorer, width=16, top_k=6, nbest=1)[0][0]
    state, first = model.score(model.start(), "bin")
    after, second = model.score(state, "b")
    assert vocabulary.decode(best.tokens) == "bin b"
    assert best.lm == pytest.approx(first + second + model.finish(after), abs=1e-5)


def test_lexica_and_times_know_the_words():
    vocabulary = Vocabulary.of_sounds(FEW)
    accepted = automaton.lexicon(("b", "bin"), vocabulary)
    assert accepted.accepts(vocabulary.encode("bin b bin"))
    assert not accepted.accepts(vocabulary.encode("in"))
    log_p_BTK, frames_BT = clear(vocabulary, "an bin")
    (timed,) = word_times(log_p_BTK, frames_BT, [vocabulary.encode("an bin")], vocabulary, fps=25.0)
    assert [word.text for word in timed] == ["an", "bin"]
    assert timed[0].start == 0 and timed[0].end <= timed[1].start


def test_every_decoder_reads_clear_speech():
    spec = dataclasses.replace(
        get_sentences().task.shape_spec(get_sentences().data),  # type: ignore[attr-defined]
        vocabulary=Vocabulary.of_sounds(grid.PRONUNCIATIONS),
        words=Vocabulary.of_words(grid.WORDS),
        slots=grid.SLOTS,
    )
    text = "bin blue at f three soon"
    tokens = stack_tokens([spec.vocabulary.encode(text)])
    words = stack_tokens([spec.words.encode(text)])
    frames_BT = np.ones((1, 60), bool)
    parts = [spelled(tokens, frames_BT, len(spec.vocabulary)), spelled(words, frames_BT, len(spec.words))]
    logits = SentenceLogits(*map(jnp.asarray, parts))
    for name, reader in readers(spec, Decoding(ngram=2), [text]).items():
        assert spec.vocabulary.decode(reader(logits, frames_BT)[0]) == text, name


def test_a_source_without_pronunciations_asks_for_a_dictionary(tmp_path):
    experiment = get_sentences()
    csv_tree(tmp_path / "clips", Visemes(words=4, train=8, val=4, test=4))
    data = dataclasses.replace(experiment.data, source="manifest", root=str(tmp_path / "clips"))  # type: ignore
    task: Any = dataclasses.replace(experiment.task, unit="sounds")  # type: ignore[call-arg]
    with pytest.raises(UserError, match="source manifest knows no pronunciations: task.pronunciations names"):
        task.corpus(data)
    task = dataclasses.replace(task, pronunciations=str(tmp_path / "none.txt"))
    with pytest.raises(UserError, match="none.txt cannot be read: No such file"):
        task.corpus(data)
    words = data.vocabulary()
    letters = "\n".join(f"{word} {' '.join(word)}" for word in words)
    (tmp_path / "none.txt").write_text(letters)
    corpus = task.corpus(data)
    assert corpus.spec.vocabulary.unit == "sounds" and corpus.counts["examples"]["train"] > 0
    with pytest.raises(ValueError, match="pronunciations='none.txt' must be None unless sounds are read"):
        Sentence(model=experiment.task.model, pronunciations="none.txt")  # type: ignore[attr-defined]
