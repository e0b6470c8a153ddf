"""Transcript rules and vocabularies: text -> ids -> text in every unit, what is refused, and that they survive JSON."""

import builtins
import dataclasses
import importlib.util
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.config import from_json, to_json
from jaxlip.data.vocab import TextRules, UnknownToken, Vocabulary
from jaxlip.errors import UserError

TEXTS = (
    "bin blue at f two now",
    "place red by g nine soon",
    "set white in a one again",
    "lay green with z zero please",
)
RULES = TextRules()
EVERYTHING = TextRules(lower=False, punctuation=True)


def characters(*texts, rules=RULES):
    return Vocabulary.of_characters(texts, rules)


def words(*texts, rules=RULES, **options):
    return Vocabulary.of_words(texts, rules, **options)


def pieces(*texts, size, rules=RULES):
    pytest.importorskip("sentencepiece")
    return Vocabulary.of_pieces(texts, size, rules)


def every_unit(*texts, rules=RULES, size=40):
    """A vocabulary of each unit; pieces where the extra is installed."""
    made = [characters(*texts, rules=rules), words(*texts, rules=rules)]
    return [*made, pieces(*texts, size=size, rules=rules)] if importlib.util.find_spec("sentencepiece") else made


# Rules


@pytest.mark.parametrize(
    ("rules", "want"),
    [
        (TextRules(), "well known don't say it now"),
        (TextRules(apostrophes=False), "well known dont say it now"),
        (TextRules(lower=False), "Well known Don't say it NOW"),
        (TextRules(punctuation=True), "well-known: don't 'say' it, now!"),
        (TextRules(punctuation=True, apostrophes=False), "well-known: dont say it, now!"),
    ],
)
def test_rules_by_hand(rules, want):
    assert rules("  Well-known:\tDon\u2019t 'say'\n it, \u3000NOW! ") == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("cafe\u0301 CAFE\u0301", "caf\u00e9 caf\u00e9"),
        ("e'\u0301", "e'\u0301"),
        ("x\u0301'a", "x\u0301'a"),
        ("¿Qué? «oui» “no”", "qué oui no"),
        ("５ + $3", "５ + $3"),
        ("ΟΔΟΣ", "οδος"[:-1] + "ς"),
        ("你好，世界。", "你好 世界"),
        ("rock 'n' roll, dogs'", "rock n roll dogs"),
        ("", ""),
        (" .,-' \n", ""),
    ],
)
def test_rules_on_unicode(text, want):
    assert TextRules()(text) == want


def test_turkish_lower_case():
    assert TextRules(turkish=True)("I\u0307\u0130 ISI") == "ii ısı"
    assert TextRules(turkish=True, lower=False)("ISI") == "ISI"
    # Without it the dot of the capital is a character of its own, and still goes both ways.
    assert TextRules()("\u0130") == "i\u0307"


def test_an_apostrophe_dropped_lets_a_mark_join_its_letter():
    assert TextRules(apostrophes=False)("e'\u0301") == "\u00e9"


@settings(max_examples=200, deadline=None)
@given(
    st.text(), st.builds(TextRules, **dict.fromkeys(["lower", "turkish", "apostrophes", "punctuation"], st.booleans()))
)
def test_rules_applied_twice_change_nothing_more(text, rules):
    once = rules(text)
    assert rules(once) == once and once == once.strip() and "  " not in once


# Both ways


@pytest.mark.parametrize("text", [*TEXTS, "", "  . ", "BIN  soon!", "zero"])
def test_text_to_ids_to_text_in_every_unit(text):
    for vocabulary in every_unit(*TEXTS):
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == vocabulary.rules(text)
        assert vocabulary.words(ids) == vocabulary.rules(text).split()
        assert vocabulary.encode(vocabulary.decode(ids)) == ids
        assert all(0 < i < len(vocabulary) for i in ids)


def test_ids_to_text_to_ids_of_single_tokens():
    for vocabulary in (characters(*TEXTS), words(*TEXTS)):
        assert len(vocabulary) == len(vocabulary.tokens) + 1
        for i, token in enumerate(vocabulary.tokens, start=1):
            assert vocabulary.decode([i]) == token
            assert token == " " or vocabulary.encode(token) == (i,)


@pytest.mark.parametrize(
    "text", ["İstanbul'da ılık", "नमस्ते दुनिया", "你好 世界", "e\u0301t\u00e9 x\u0301", "👩‍👩‍👧 ok", "мир, дверь"]
)
def test_unicode_both_ways(text):
    for vocabulary in every_unit(text, *TEXTS, rules=EVERYTHING, size=60):
        assert vocabulary.decode(vocabulary.encode(text)) == EVERYTHING(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=4), st.sampled_from([TextRules(), EVERYTHING]))
def test_random_texts_both_ways(texts, rules):
    if any(map(rules, texts)):
        for vocabulary in (characters(*texts, rules=rules), words(*texts, rules=rules)):
            assert all(vocabulary.decode(vocabulary.encode(text)) == rules(text) for text in texts)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(sorted({*"".join(TEXTS)})), max_size=30).map("".join))
def test_random_texts_both_ways_in_pieces(text):
    vocabulary = pieces(*TEXTS, size=40)
    assert vocabulary.decode(vocabulary.encode(text)) == vocabulary.rules(text)


def test_characters_decode_to_just_what_the_path_says():
    vocabulary = characters("ab a")
    assert vocabulary.tokens == (" ", "a", "b")
    assert vocabulary.decode([2, 1, 1, 3]) == "a  b" and vocabulary.words([1, 2, 1, 1, 3]) == ["a", "b"]


def test_words_are_sorted_or_in_the_order_given():
    assert words("set bin", "lay bin").tokens == ("bin", "lay", "set")
    assert words("set bin", "lay bin", ordered=True).tokens == ("set", "bin", "lay")


def test_ids_may_come_from_arrays():
    for ids in (np.array([1, 2]), (np.int64(1), 2), iter([1, 2])):
        assert words("a b").decode(ids) == "a b"


# Pieces


def test_pieces_are_deterministic_of_the_size_asked_for_and_quiet(capfd):
    first, again = (pieces(*TEXTS, size=40) for _ in range(2))
    assert first == again and len(first) == 40
    assert capfd.readouterr() == ("", "")


def test_frequent_words_become_one_piece():
    vocabulary = pieces("blue", "blue red", "blue at", size=14)
    assert len(vocabulary.encode("blue blue")) == 2 < len(vocabulary.encode("red"))


def test_pieces_decode_as_sentencepiece_does_and_without_it(monkeypatch):
    vocabulary = pieces(*TEXTS, size=40)
    from jaxlip.data.vocab import _processor

    processor = _processor(vocabulary.pieces or "")
    rng = np.random.default_rng(0)
    paths = [rng.integers(1, 40, 6).tolist() for _ in range(20)]
    want = [processor.decode(path).strip() for path in paths]
    without(monkeypatch, "sentencepiece")
    assert [vocabulary.decode(path).strip() for path in paths] == want


def test_long_lines_are_trained_on_too():
    vocabulary = pieces("a b " * 3000 + "zebra", size=12)
    assert vocabulary.decode(vocabulary.encode("zebra a")) == "zebra a"


def without(monkeypatch, name):
    import_ = builtins.__import__

    def refuse(module, *args, **kwargs):
        if module == name:
            raise ImportError(name)
        return import_(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_sentencepiece_the_extra_is_named(monkeypatch):
    without(monkeypatch, "sentencepiece")
    with pytest.raises(UserError, match=r"pip install 'jaxlip\[pieces\]'"):
        Vocabulary.of_pieces(TEXTS, 40)


def test_sizes_that_do_not_fit_say_what_does():
    with pytest.raises(UserError, match="size=5000 is too large for these 4 texts; choose ([0-9]+) or less") as told:
        pieces(*TEXTS, size=5000)
    most = int(str(told.value).split("choose ")[1].split()[0])
    assert len(pieces(*TEXTS, size=most)) == most
    with pytest.raises(UserError, match="size=9 is too small for the characters of these 4 texts; choose ([0-9]+)"):
        pieces(*TEXTS, size=9)
    with pytest.raises(UserError, match="size=-1 "):
        pieces(*TEXTS, size=-1)


def test_the_mark_that_sentencepiece_writes_for_spaces_is_refused():
    with pytest.raises(UnknownToken, match="character '▁' of text 'snake▁case'"):
        pieces("snake▁case", *TEXTS, size=40)


def test_a_model_of_other_pieces_is_refused():
    vocabulary, other = pieces(*TEXTS, size=40), pieces(*TEXTS, size=45)
    with pytest.raises(UserError, match="a model of 44 pieces, not of these 39 tokens"):
        dataclasses.replace(vocabulary, pieces=other.pieces).encode("bin")
    for damaged in ("", "?", "aGVsbG8="):
        with pytest.raises(UserError, match="is not a sentencepiece model"):
            dataclasses.replace(vocabulary, pieces=damaged).encode("bin")


# What is refused


def test_unknown_tokens_are_named_with_their_text():
    with pytest.raises(UnknownToken, match="character 'q' of text 'Bin Q' is not in the vocabulary of 21 characters"):
        characters(*TEXTS).encode("Bin Q")
    with pytest.raises(UnknownToken, match="word 'black' of text 'bin black' is not in the vocabulary of 24 words"):
        words(*TEXTS).encode("bin black")
    with pytest.raises(UnknownToken, match="piece 'q' of text 'bin q' is not in the vocabulary of 39 pieces"):
        pieces(*TEXTS, size=40).encode("bin q")
    with pytest.raises(UnknownToken) as told:
        words("a").encode("b " * 1000)
    assert isinstance(told.value, UserError) and len(str(told.value)) < 250


def test_ids_that_are_no_text_are_refused():
    for vocabulary in every_unit(*TEXTS):
        with pytest.raises(ValueError, match="id 0 is the blank"):
            vocabulary.decode([1, 0, 2])
        for number in (-1, len(vocabulary), 10**6):
            with pytest.raises(ValueError, match=f"id {number} is no token; this vocabulary has ids 1 to "):
                vocabulary.words([1, number])
        with pytest.raises(TypeError):
            vocabulary.decode(np.array([1.0]))
        assert vocabulary.decode([]) == "" and vocabulary.words([]) == []


@pytest.mark.parametrize("texts", [[], [""], [" ", ".", "'"]])
@pytest.mark.parametrize("of", [Vocabulary.of_characters, Vocabulary.of_words, lambda t: Vocabulary.of_pieces(t, 10)])
def test_texts_that_leave_nothing_are_refused(of, texts):
    with pytest.raises(UserError, match="no vocabulary can be made: .*training split"):
        of(texts)


def test_one_string_is_no_list_of_texts():
    with pytest.raises(TypeError, match="is one string"):
        Vocabulary.of_words("bin blue")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unit": "phones", "tokens": ("a",)}, "Vocabulary.unit='phones' must be one of"),
        ({"unit": "words", "tokens": ()}, "at least one token"),
        ({"unit": "words", "tokens": ("a", "b", "a")}, r"tokens\[2\]='a' must be new"),
        ({"unit": "words", "tokens": ("a", "")}, r"tokens\[1\]='' must be a character or more"),
        ({"unit": "words", "tokens": ("a b",)}, "must be one word as the rules write it"),
        ({"unit": "words", "tokens": ("Bin",)}, "must be one word as the rules write it"),
        ({"unit": "characters", "tokens": ("a", "bc")}, r"tokens\[1\]='bc' must be one character"),
        ({"unit": "characters", "tokens": ("e\u0301",)}, "must be one character"),
        ({"unit": "characters", "tokens": ("A",)}, "must be as the rules write it"),
        ({"unit": "characters", "tokens": ("\t",)}, "must be as the rules write it"),
        ({"unit": "characters", "tokens": ("'",), "rules": TextRules(apostrophes=False)}, "as the rules write it"),
        ({"unit": "characters", "tokens": ("a",), "pieces": "eA=="}, "Vocabulary.pieces must hold a model if"),
        ({"unit": "pieces", "tokens": ("a",)}, "Vocabulary.pieces must hold a model if"),
        ({"unit": "pieces", "tokens": ("a b",), "pieces": "eA=="}, "without white space"),
    ],
)
def test_vocabularies_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(**fields)


# JSON


def test_every_vocabulary_survives_json():
    for vocabulary in every_unit("İstanbul'da, 你好 \u2028 x\u0301", *TEXTS, rules=EVERYTHING, size=60):
        again = from_json(json.loads(json.dumps(to_json(vocabulary))))
        assert again == vocabulary and hash(again) == hash(vocabulary)
        assert again.encode(TEXTS[0]) == vocabulary.encode(TEXTS[0])


def test_an_encoded_vocabulary_still_equals_a_fresh_one():
    used = characters(*TEXTS)
    used.encode("bin")
    assert used == characters(*TEXTS) and dataclasses.replace(used, tokens=("b",)).encode("b") == (1,)
