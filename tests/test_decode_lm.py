"""Language models and their fusion: closed forms, files, KenLM, and enumeration of all sentences."""

import math
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.data.vocab import Vocabulary
from jaxlip.decode import lm
from jaxlip.decode.arpa import read_arpa, write_arpa
from jaxlip.decode.automaton import lexicon
from jaxlip.decode.beam import beam_search
from jaxlip.decode.kenlm import KenLm
from jaxlip.decode.lm import LanguageModel, TokenLm, WordLm, token_names, token_sentence
from jaxlip.decode.ngram import END, UNKNOWN, NGram, fit
from jaxlip.decode.scorers import Scorer, Sum
from jaxlip.errors import UserError

TEXTS = ["a b", "a b b", "ba a", "b", "a ba b a", "ab a b"]
SENTENCES = [text.split() for text in TEXTS]
SMALL = Vocabulary.of_characters(TEXTS)
WORDS = Vocabulary.of_words(TEXTS)

sentences_of_letters = st.lists(st.lists(st.sampled_from("abcd"), max_size=6), min_size=1, max_size=8)


def log_posteriors(seed, clips, frames, tokens):
    logits_BTK = np.random.default_rng(seed).normal(size=(clips, frames, tokens))
    return logits_BTK - np.log(np.exp(logits_BTK).sum(axis=-1, keepdims=True))


def search(log_p_BTK, width=600, **options):
    return beam_search(log_p_BTK, np.ones(log_p_BTK.shape[:2], bool), width=width, nbest=width, **options)


# N-gram models


def test_witten_bell_by_hand():
    # a a </s>, b </s>: unigrams a 2, b 1, </s> 2 (5 of 3 types); after a: a 1, </s> 1; V = {a, b, <unk>, </s>}.
    model = fit([["a", "a"], ["b"]], 2)
    unigram = {word: (count + 3 / 4) / 8 for word, count in (("a", 2), ("b", 1), (END, 2), (UNKNOWN, 0))}
    after_a = {word: (seen + 2 * unigram[word]) / 4 for word, seen in (("a", 1), ("b", 0), (END, 1), (UNKNOWN, 0))}
    state, first = model.score(model.start(), "a")
    assert math.exp(first) == pytest.approx((1 + 2 * unigram["a"]) / 4)
    assert {w: math.exp(model.score(state, w)[1]) for w in ("a", "b", UNKNOWN)} == pytest.approx(
        {w: after_a[w] for w in ("a", "b", UNKNOWN)}
    )
    assert math.exp(model.finish(state)) == pytest.approx(after_a[END])
    assert model.score(state, "z") == model.score(state, UNKNOWN)


@settings(max_examples=60, deadline=None)
@given(sentences=sentences_of_letters, order=st.integers(1, 4), words=st.none() | st.sets(st.sampled_from("abcxy")))
def test_probabilities_sum_to_one_after_every_history(sentences, order, words):
    model = fit(sentences, order, words)
    histories = {
        (),
        *(tuple(sentence[:n]) for sentence in sentences for n in range(len(sentence) + 1)),
        ("d", "q", "a"),
    }
    for history in histories:
        state = model.start()
        for word in history:
            state, _ = model.score(state, word)
        total = sum(math.exp(model.score(state, word)[1]) for word in model.words() if word != END)
        assert total + math.exp(model.finish(state)) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(sentences=sentences_of_letters, order=st.integers(1, 4), tried=sentences_of_letters)
def test_files_hold_the_model(tmp_path_factory, sentences, order, tried):
    model = fit(sentences, order)
    path = tmp_path_factory.mktemp("arpa") / "model.arpa"
    write_arpa(model, path)
    again = read_arpa(path)
    assert again.order == order and again.log_p.keys() == model.log_p.keys()
    assert [again.log_p_of(s) for s in tried] == pytest.approx([model.log_p_of(s) for s in tried], rel=1e-6)


def test_a_fitted_model_prefers_what_it_has_seen():
    model = fit(SENTENCES, 3)
    assert model.log_p_of(["a", "b"]) > model.log_p_of(["b", "ab"])
    assert set(model.words()) == {"a", "b", "ab", "ba", UNKNOWN, END}


def test_words_outside_the_vocabulary_are_counted_as_unknown():
    model = fit(SENTENCES, 2, words=["a", "b"])
    assert set(model.words()) == {"a", "b", UNKNOWN, END}
    assert model.log_p_of(["ab"]) == model.log_p_of(["ba"]) > fit(SENTENCES, 2).log_p_of(["zz"])


@pytest.mark.parametrize(
    "sentences, options, message",
    [
        ([], {}, "no sentences"),
        ([["a"]], {"order": 0}, "order=0 must be 1 or more"),
        ([["a", "</s>"]], {}, "'</s>' means something else"),
        ([["a"]], {"words": ["a", "<unk>"]}, "'<unk>' means something else"),
        ([["a b"]], {}, "'a b' is no token"),
        ([[""]], {}, "'' is no token"),
    ],
)
def test_sentences_that_cannot_be_fitted_are_refused(sentences, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        fit(sentences, **{"order": 2, **options})


def test_text_that_is_not_cut_is_refused():
    with pytest.raises(TypeError, match="list of tokens"):
        fit(TEXTS, 2)


# Files

ARPA = """
some words on how it was made
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.0 <unk>
-99 <s> -0.30103
-0.30103\ta\t-0.1
-0.6 </s>

\\2-grams:
-0.2\t<s>\ta
-0.4 a </s>

\\end\\
"""


def test_a_file_of_another_tool_by_hand(tmp_path):
    (tmp_path / "lm.arpa").write_text(ARPA)
    model = read_arpa(tmp_path / "lm.arpa")
    ten = math.log(10)
    assert model.log_p_of(["a"]) == pytest.approx(ten * (-0.2 - 0.4))
    assert model.log_p_of(["a", "a"]) == pytest.approx(ten * (-0.2 - 0.1 - 0.30103 - 0.4))
    assert model.log_p_of(["z"]) == pytest.approx(ten * (-0.30103 - 1.0 - 0.6))


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("\\data\\", "data", "the file ends before \\data\\"),
        ("ngram 2=2", "ngram 3=2", "line 5 is not ARPA: 'ngram 3=2' is not `ngram 2=COUNT`"),
        ("ngram 1=4\nngram 2=2\n", "", "it counts no n-grams"),
        ("ngram 1=4", "ngram 1=5", "'\\\\2-grams:' is not a probability, 1 tokens and a back-off weight"),
        ("ngram 1=4", "ngram 1=3", "\\2-grams: should follow, not '-0.6 </s>'"),
        ("ngram 2=2", "ngram 2=1", "\\end\\ should follow, not '-0.4 a </s>'"),
        ("\\end\\", "", "the file ends before \\end\\"),
        ("-0.4 a </s>\n\n\\end\\", "", "the file ends before its 2 2-grams"),
        ("-0.2\t<s>", "0.2\t<s>", "line 14 is not ARPA: '0.2' is no log10 probability"),
        ("-0.2\t<s>", "nan\t<s>", "'nan' is no log10 probability"),
        ("\t-0.1", "\tminus", "'minus' is no log10 weight"),
        ("-0.2\t<s>\ta", "-0.2\t<s>\ta\t-1", "is not a probability, 2 tokens"),
        ("-0.4 a </s>", "-0.4 <s> a", "'<s> a' is there twice"),
        ("-0.6 </s>", "-0.6 b", "it has no unigram </s>"),
    ],
)
def test_damaged_files_are_refused_with_their_line(tmp_path, old, new, message):
    path = tmp_path / "lm.arpa"
    assert old in ARPA
    path.write_text(ARPA.replace(old, new))
    with pytest.raises(UserError) as raised:
        read_arpa(path)
    assert str(raised.value).startswith(f"language model {path}") and message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path):
    (tmp_path / "binary").write_bytes(b"mmap lm\xff\xfe\x00")
    with pytest.raises(UserError, match="no UTF-8 text"):
        read_arpa(tmp_path / "binary")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_arpa(tmp_path / "absent")
    with pytest.raises(UserError, match="cannot be written"):
        write_arpa(fit(SENTENCES, 2), tmp_path / "absent/lm.arpa")


# KenLM


def kenlm(model: NGram, folder, **options) -> KenLm:
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    write_arpa(model, folder / "model.arpa")
    return KenLm(folder / "model.arpa", **options)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_kenlm_agrees_with_our_model(tmp_path, order):
    rng = np.random.default_rng(order)
    model = fit([list(rng.choice(list("abcde"), rng.integers(0, 9))) for _ in range(40)], order)
    theirs = kenlm(model, tmp_path)
    for _ in range(100):
        state, their_state = model.start(), theirs.start()
        for word in rng.choice(list("abcdez"), rng.integers(0, 12)).tolist():
            (state, ours), (their_state, log_p) = model.score(state, word), theirs.score(their_state, word)
            assert log_p == pytest.approx(ours, abs=1e-4)
        assert theirs.finish(their_state) == pytest.approx(model.finish(state), abs=1e-4)


def test_kenlm_knows_only_the_words_that_it_is_given(tmp_path):
    model = fit(SENTENCES, 2)
    theirs = kenlm(model, tmp_path, words=["a"])
    assert theirs.score(theirs.start(), "b") == theirs.score(theirs.start(), "<unk>")
    assert theirs.score(theirs.start(), "a")[1] == pytest.approx(model.score(model.start(), "a")[1], abs=1e-5)


def test_fusion_with_kenlm_is_fusion_with_our_model(tmp_path):
    model = fit([token_sentence(text, SMALL) for text in TEXTS], 4)
    log_p_BTK = log_posteriors(3, 4, 12, len(SMALL))
    ours, theirs = (
        search(log_p_BTK, width=8, scorer=TokenLm(m, SMALL, weight=0.8, bonus=0.3))
        for m in (model, kenlm(model, tmp_path))
    )
    assert [[h.tokens for h in row] for row in theirs] == [[h.tokens for h in row] for row in ours]
    assert [h.score for row in theirs for h in row] == pytest.approx([h.score for row in ours for h in row], abs=1e-3)


def test_models_that_kenlm_does_not_read_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        KenLm(tmp_path / "absent.arpa")
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="does not list its words; give them as words="):
        KenLm(tmp_path / "noise")
    with pytest.raises(UserError, match="is not read by KenLM") as raised:
        KenLm(tmp_path / "noise", words=["a"])
    assert "\n" not in str(raised.value)
    (tmp_path / "cut.arpa").write_text(ARPA[ARPA.index("\\data") : ARPA.index("-0.4")])
    with pytest.raises(UserError, match="is not read by KenLM"):
        KenLm(tmp_path / "cut.arpa")
    with pytest.raises(UserError, match="at least a bigram model"):
        kenlm(fit(SENTENCES, 1), tmp_path)
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder.kenlm", None)
    with pytest.raises(UserError, match=re.escape("pip install 'jaxlip[lm]'")):
        KenLm(tmp_path / "noise")


# Fusion


def token_total(model, vocabulary, tokens, weight, bonus):
    names = [token_names(vocabulary)[token - 1] for token in tokens]
    return weight * model.log_p_of(names) + bonus * len(names)


def word_total(model, vocabulary, tokens, weight, bonus):
    words = vocabulary.decode(tokens).split()
    return weight * model.log_p_of(words) + bonus * len(words)


@pytest.mark.parametrize("weight, bonus", [(1.0, 0.0), (0.5, 1.5), (0.0, -0.7)])
@pytest.mark.parametrize(
    "make, total, model",
    [
        (TokenLm, token_total, fit([token_sentence(text, SMALL) for text in TEXTS], 3)),
        (WordLm, word_total, fit(SENTENCES, 2)),
    ],
    ids=["tokens", "words"],
)
def test_fusion_finds_the_best_sum(make, total, model, weight, bonus):
    log_p_BTK = log_posteriors(1, 3, 5, len(SMALL))
    fused = search(log_p_BTK, scorer=make(model, SMALL, weight=weight, bonus=bonus))
    for plain, hypotheses in zip(search(log_p_BTK), fused, strict=True):
        lm_of = {h.tokens: total(model, SMALL, h.tokens, weight, bonus) for h in plain}
        want = {h.tokens: h.ctc + lm_of[h.tokens] for h in plain}
        assert {h.tokens: h.score for h in hypotheses} == pytest.approx(want)
        assert {h.tokens: h.lm for h in hypotheses} == pytest.approx(lm_of)
        assert hypotheses[0].tokens == max(want, key=lambda tokens: want[tokens])


def test_word_models_with_the_unit_words_agree():
    log_p_BTK = log_posteriors(2, 3, 4, len(WORDS))
    model = fit(SENTENCES, 3)
    late, early = (search(log_p_BTK, scorer=make(model, WORDS, weight=0.7, bonus=0.2)) for make in (WordLm, TokenLm))
    assert [{h.tokens: h.score for h in row} for row in late] == [
        pytest.approx({h.tokens: h.score for h in row}) for row in early
    ]


def test_word_models_over_pieces():
    pytest.importorskip("sentencepiece")
    vocabulary = Vocabulary.of_pieces(["aba ab bab", "ab ab aba"], 8)
    model = fit([["aba", "ab"], ["bab"]], 2)
    log_p_BTK = log_posteriors(4, 2, 4, len(vocabulary))
    for row in search(log_p_BTK, scorer=WordLm(model, vocabulary, weight=1.0, bonus=0.5)):
        for h in row:
            assert h.lm == pytest.approx(word_total(model, vocabulary, h.tokens, 1.0, 0.5))


def test_a_word_model_and_a_lexicon_together():
    log_p_BTK = log_posteriors(5, 3, 5, len(SMALL))
    model, known = fit(SENTENCES, 2), {"a", "ab", "ba"}
    scorer = Sum([lexicon(known, SMALL), WordLm(model, SMALL, weight=1.2, bonus=0.4)])
    for plain, hypotheses in zip(search(log_p_BTK), search(log_p_BTK, scorer=scorer), strict=True):
        legal = [h for h in plain if set(SMALL.decode(h.tokens).split(" ")) <= known or not h.tokens]
        want = {h.tokens: h.ctc + word_total(model, SMALL, h.tokens, 1.2, 0.4) for h in legal}
        assert {h.tokens: h.score for h in hypotheses} == pytest.approx(want)


def test_searches_share_nothing_but_memory(monkeypatch):
    # A scorer that forgets between searches, and one that does not, say the same.
    model, letters = fit(SENTENCES, 2), fit([token_sentence(text, SMALL) for text in TEXTS], 3)
    batches = [log_posteriors(seed, 3, 9, len(SMALL)) for seed in range(4)]

    def scores():
        scorer = Sum([WordLm(model, SMALL, weight=1.0), TokenLm(letters, SMALL, weight=0.5)])
        return [search(log_p_BTK, width=7, scorer=scorer) for log_p_BTK in batches]

    kept = scores()
    monkeypatch.setattr(lm, "REMEMBERED", 0)
    assert scores() == kept


@pytest.mark.parametrize("make", [TokenLm, WordLm])
def test_scorers_take_arrays_of_any_shape(make):
    scorer = make(fit(SENTENCES, 2), WORDS, weight=1.0)
    assert isinstance(scorer, Scorer) and isinstance(fit(SENTENCES, 2), LanguageModel)
    tokens = np.arange(1, len(WORDS)).reshape(1, 2, 2)
    states, scores = scorer.extend(np.full((3, 1, 1), scorer.start()), tokens)
    assert states.shape == scores.shape == (3, 2, 2)
    after, more = scorer.extend(states, tokens)
    assert after.shape == more.shape == scorer.finish(after).shape == (3, 2, 2)
    one_state, one_score = scorer.extend(states[0, 1, :1], tokens[0, 1, :1])
    assert one_score.tolist() == more[0, 1, :1].tolist()
    assert scorer.finish(one_state).tolist() == scorer.finish(after)[0, 1, :1].tolist()
