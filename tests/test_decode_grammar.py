"""Grammars and lexica as automata, and words of token ids, against enumeration over words."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.data.sources import grid
from jaxlip.data.vocab import TextRules, Vocabulary
from jaxlip.decode.automaton import from_word_graph, lexicon, slots
from jaxlip.decode.beam import beam_search
from jaxlip.decode.scorers import Scorer, Sum
from jaxlip.decode.words import Spelling
from jaxlip.errors import UserError

GRID = (
    ("command", grid.COMMANDS),
    ("colour", grid.COLOURS),
    ("preposition", grid.PREPOSITIONS),
    ("letter", grid.LETTERS),
    ("digit", grid.DIGITS),
    ("adverb", grid.ADVERBS),
)
CHARACTERS = Vocabulary.of_characters([" ".join(grid.WORDS)])
WORDS = Vocabulary.of_words(grid.WORDS)
SMALL = Vocabulary.of_characters(["a b c"])


def pieces():
    pytest.importorskip("sentencepiece")
    return Vocabulary.of_pieces([" ".join(grid.WORDS)] * 3, 60)


VOCABULARIES = {"characters": lambda: CHARACTERS, "words": lambda: WORDS, "pieces": pieces}


@pytest.fixture(params=list(VOCABULARIES))
def vocabulary(request):
    return VOCABULARIES[request.param]()


def noise(seed, clips, frames, vocabulary):
    logits_BTK = 2 * np.random.default_rng(seed).normal(size=(clips, frames, len(vocabulary)))
    return logits_BTK - np.log(np.exp(logits_BTK).sum(axis=-1, keepdims=True))


def is_grid(text):
    words = text.split(" ")
    return len(words) == len(GRID) and all(word in slot for word, (_, slot) in zip(words, GRID, strict=True))


def test_sentences_of_the_grammar_are_accepted(vocabulary):
    automaton = slots(GRID, vocabulary)
    rng = np.random.default_rng(0)
    for _ in range(50):
        words = [str(rng.choice(slot)) for _, slot in GRID]
        assert automaton.accepts(vocabulary.encode(" ".join(words)))
        assert not automaton.accepts(vocabulary.encode(" ".join(words[:-1])))
        assert not automaton.accepts(vocabulary.encode(" ".join(words[::-1])))
    assert not automaton.accepts(())


def test_noise_is_decoded_into_legal_sentences(vocabulary):
    log_p_BTK = noise(0, 6, 60, vocabulary)
    frames_BT = np.random.default_rng(0).random((6, 60)) < 0.9
    lists = beam_search(log_p_BTK, frames_BT, width=24, nbest=24, scorer=slots(GRID, vocabulary))
    assert sum(map(len, lists)) > 20
    assert all(is_grid(vocabulary.decode(h.tokens)) for hypotheses in lists for h in hypotheses)


def test_too_few_frames_for_a_sentence_give_an_empty_list(vocabulary):
    log_p_BTK = noise(0, 2, 5, vocabulary)
    assert beam_search(log_p_BTK, np.ones((2, 5), bool), width=8, scorer=slots(GRID, vocabulary)) == [[], []]


def test_a_lexicon_says_only_known_words(vocabulary):
    known = {"bin", "blue", "in", "a", "six", "soon"}
    lists = beam_search(
        noise(1, 5, 25, vocabulary), np.ones((5, 25), bool), width=16, nbest=16, scorer=lexicon(known, vocabulary)
    )
    texts = [vocabulary.decode(h.tokens) for hypotheses in lists for h in hypotheses]
    assert len(texts) > 20 and all(set(text.split()) <= known for text in texts)
    assert any(" " in text for text in texts)


def test_the_best_legal_sentence_is_found():
    # Among all sequences of words the one of the highest total probability, for automata are exact.
    log_p_BTK = noise(2, 4, 5, SMALL)
    words = ("a", "ab", "cab", "bb")
    automaton = lexicon(words, SMALL)
    open_lists = beam_search(log_p_BTK, np.ones((4, 5), bool), width=1500, nbest=1500)
    closed_lists = beam_search(log_p_BTK, np.ones((4, 5), bool), width=1500, nbest=1500, scorer=automaton)
    legal = re.compile(rf"((({'|'.join(words)}) )*({'|'.join(words)}))?")
    for everything, hypotheses in zip(open_lists, closed_lists, strict=True):
        want = {h.tokens: h.ctc for h in everything if legal.fullmatch(SMALL.decode(h.tokens))}
        assert {h.tokens: h.score for h in hypotheses} == pytest.approx(want)


@settings(max_examples=60, deadline=None)
@given(
    arcs=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["a", "ab", "abc", "b", "ba", "cc"]), st.integers(0, 3)),
        max_size=8,
    ),
    finals=st.sets(st.integers(0, 3), min_size=1),
)
@pytest.mark.parametrize("unit", ["characters", "words"])
def test_a_word_graph_accepts_what_its_paths_spell(unit, arcs, finals):
    vocabulary = SMALL if unit == "characters" else Vocabulary.of_words(["a ab abc b ba cc"])
    paths = {("", 0)}
    spelled = {""} if 0 in finals else set()
    for _ in range(3):
        paths = {(f"{text} {word}".strip(), end) for text, node in paths for start, word, end in arcs if start == node}
        spelled |= {text for text, node in paths if node in finals}
    longest = 5 if unit == "characters" else 3
    try:
        automaton = from_word_graph(arcs, 0, finals, vocabulary)
    except UserError as error:
        assert "no sequence of words" in str(error) and not spelled
        return
    every = range(1, len(vocabulary))
    tried = itertools.chain.from_iterable(itertools.product(every, repeat=n) for n in range(longest + 1))
    assert {vocabulary.decode(ids) for ids in tried if automaton.accepts(ids)} == {
        text for text in spelled if len(vocabulary.encode(text)) <= longest
    }
    _check_no_dead_ends(automaton)


@settings(max_examples=60, deadline=None)
@given(
    arcs=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["a", "ab", "aa", "cabb", "ba", "bb"]), st.integers(0, 3)),
        min_size=1,
        max_size=8,
    ),
    final=st.integers(0, 3),
    frames=st.integers(0, 8),
    width=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_what_fits_into_the_frames_is_never_lost(arcs, final, frames, width, seed):
    texts, paths = {""} if final == 0 else set(), {("", 0)}
    for _ in range(4):
        paths = {(f"{text} {word}".strip(), end) for text, node in paths for start, word, end in arcs if start == node}
        texts |= {text for text, node in paths if node == final}
    # A token a frame, and a blank between two equal ones.
    needed = [len(text) + sum(a == b for a, b in itertools.pairwise(text)) for text in texts]
    if not texts:
        return
    scorer = Sum([from_word_graph(arcs, 0, [final], SMALL), lexicon(["a", "ab", "aa", "cabb", "ba", "bb"], SMALL)])
    hypotheses = beam_search(noise(seed, 1, frames, SMALL), np.ones((1, frames), bool), width=width, scorer=scorer)[0]
    assert bool(hypotheses) == (min(needed) <= frames)


def _check_no_dead_ends(automaton):
    alive_S = automaton.final_S.copy()
    for _ in alive_S:
        alive_S |= ((automaton.next_SK >= 0) & alive_S[automaton.next_SK]).any(axis=1)
    assert alive_S.all()


def test_tables_match_the_protocol():
    automaton = slots(GRID, CHARACTERS)
    assert isinstance(automaton, Scorer)
    states, scores = automaton.extend(np.zeros((2, 3, 1), int), np.arange(1, len(CHARACTERS))[None, None])
    firsts = {word[0] for word in grid.COMMANDS}
    assert states.shape == scores.shape == (2, 3, len(CHARACTERS) - 1)
    assert {CHARACTERS.tokens[k] for k in np.flatnonzero(scores[1, 2] == 0)} == firsts
    assert set(np.unique(scores)) == {0.0, -np.inf}


def test_words_are_written_as_the_rules_write_them():
    automaton = lexicon(["Bin", "BLUE"], CHARACTERS)
    assert automaton.accepts(CHARACTERS.encode("blue bin"))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: slots([("colour", ("blue", "r\u00e4d"))], CHARACTERS), "grammar slot 'colour': character '\u00e4'"),
        (lambda: slots([("colour", ("blue", "black"))], WORDS), "grammar slot 'colour': word 'black'"),
        (lambda: slots([("colour", ())], WORDS), "grammar slot 'colour' has no words"),
        (lambda: lexicon(["bin blue"], CHARACTERS), "lexicon: 'bin blue' is not one word"),
        (lambda: lexicon(["..."], CHARACTERS), "lexicon: '...' is not one word"),
        (lambda: lexicon(["a"], Vocabulary.of_characters(["abc"])), "lexicon: the vocabulary has no space"),
        (lambda: from_word_graph([(0, "bin", 1)], 0, [2], WORDS), "word graph: no sequence of words leads"),
        (lambda: from_word_graph([], 0, [1], WORDS), "grammar: no sequence of words leads"),
    ],
)
def test_grammars_that_cannot_be_are_refused(build, message):
    with pytest.raises(UserError) as raised:
        build()
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)


def test_an_automaton_too_large_to_tabulate_is_refused(monkeypatch):
    monkeypatch.setattr("jaxlip.decode.automaton.MAX_CELLS", 100)
    with pytest.raises(UserError, match="are too many to tabulate"):
        slots(GRID, CHARACTERS)


def test_a_lexicon_may_say_nothing_and_a_grammar_without_slots_says_nothing():
    assert lexicon(["a"], SMALL).accepts(()) and not lexicon(["a"], SMALL).accepts(SMALL.encode("b"))
    assert slots([], SMALL).accepts(()) and not slots([], SMALL).accepts((1,))


# Words of token ids


def test_words_keep_the_places_of_their_tokens(vocabulary):
    spelling = Spelling.of(vocabulary)
    ids = vocabulary.encode("place red by q nine now")
    words = spelling.words(ids)
    assert [word for word, _, _ in words] == ["place", "red", "by", "q", "nine", "now"]
    for word, first, end in words:
        assert vocabulary.decode(ids[first:end]).strip() == word


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(1, len(SMALL) - 1), max_size=12))
def test_any_ids_are_cut_where_their_text_is(ids):
    words = Spelling.of(SMALL).words(ids)
    assert [word for word, _, _ in words] == SMALL.decode(ids).split()
    assert [SMALL.decode(ids[first:end]) for _, first, end in words] == SMALL.decode(ids).split()


def test_pieces_over_the_edge_of_a_word_are_refused():
    with pytest.raises(UserError, match="spans more than one word"):
        Spelling.of(Vocabulary(unit="pieces", tokens=("\u2581a", "b\u2581c"), pieces="not read here"))


def test_rules_of_the_vocabulary_count():
    cased = Vocabulary.of_characters(["Ab c"], TextRules(lower=False))
    assert lexicon(["Ab"], cased).accepts(cased.encode("Ab"))
