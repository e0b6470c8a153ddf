"""Scores of transcripts, their floor and intervals, and what a CTC model emits: closed forms, brute force and jiwer."""

import itertools

import numpy as np
import pytest

import jaxlip.metrics.sentences as sentences
from jaxlip.metrics.edit_distance import align_tokens, distances, pad_ids
from jaxlip.metrics.sentences import best_constant, emission_statistics, sentence_scores

SLOTS = (("command", ("bin", "lay", "set")), ("colour", ("blue", "red")), ("digit", ("one", "two", "six")))
VOCABULARY = [word for _, words in SLOTS for word in words]

# Ten words. Edits: none; two replaced; one missed and one put in; one missed; one put in.
SAID = ["bin blue two", "lay red one", "set blue", "bin red", ""]
HEARD = ["bin blue two", "lay blue two", "blue six", "bin", "six"]


def grammar(count, seed=0):
    """Sentences of the grammar, each slot with its own skewed distribution."""
    rng = np.random.default_rng(seed)
    odds = ([0.6, 0.3, 0.1], [0.7, 0.3], [0.4, 0.35, 0.25])
    drawn = [rng.choice(words, count, p=p) for (_, words), p in zip(SLOTS, odds, strict=True)]
    return [" ".join(words) for words in zip(*drawn, strict=True)]


def spoiled(texts, rate=0.3, seed=1):
    """What a mediocre reader would make of the texts."""
    rng = np.random.default_rng(seed)
    read = []
    for text in texts:
        words = [rng.choice(VOCABULARY) if rng.random() < rate else word for word in text.split()]
        read.append(" ".join(word for word in words if rng.random() > rate / 3))
    return read


def scores_of(said=SAID, heard=HEARD, clips=None, constant=("bin", "blue", "two"), **options):
    return sentence_scores(said, heard, range_of(said) if clips is None else clips, constant, **options)


def range_of(texts):
    return [f"clip{i}" for i in range(len(texts))]


def edits(constant, texts):
    return sum(align_tokens(text.split(), list(constant)).edits for text in texts)


# Scores


def test_values_by_hand():
    scores = scores_of()
    assert scores.count == 5
    assert scores.scores["wer"].value == pytest.approx((0 + 2 + 2 + 1 + 1) / 10)
    assert scores.scores["sentence_accuracy"].value == pytest.approx(1 / 5)
    # Spaces are characters, and so is the one lost with a word.
    characters = sum(align_tokens(a, b).edits for a, b in zip(SAID, HEARD, strict=True))
    assert align_tokens("bin red", "bin").edits == 4
    assert scores.scores["cer"].value == pytest.approx(characters / len("".join(SAID)))


def test_tables_by_hand():
    tables = scores_of(slots=SLOTS).tables
    these, constant = tables["edits"]
    counts = {"hits": 6, "substitutions": 2, "deletions": 2, "insertions": 2}
    assert these == {"answers": "hypotheses", "reference_words": 10, **counts}
    assert constant["answers"] == "always 'bin blue two'" and constant["reference_words"] == 10
    words = {row["word"]: row for row in tables["words"]}
    assert [row["word"] for row in tables["words"]] == ["bin", "blue", "red", "lay", "one", "set", "two"]
    assert words["bin"] == {"word": "bin", "support": 2, "recall": 1.0, "missed": 0, "taken_for": ""}
    assert words["red"] == {"word": "red", "support": 2, "recall": 0.0, "missed": 1, "taken_for": "blue"}
    assert words["one"] == {"word": "one", "support": 1, "recall": 0.0, "missed": 0, "taken_for": "two"}
    slots = {row["slot"]: row for row in tables["slots"]}
    assert {name: (row["support"], row["recall"]) for name, row in slots.items()} == {
        "command": (4, 3 / 4),
        "colour": (4, 1 / 2),
        "digit": (2, 1 / 2),
    }
    assert [slots[name]["floor"] for name in ("command", "colour", "digit")] == [1 / 2, 1 / 2, 1 / 2]


def test_floor_is_the_constant_answer_scored_on_the_split():
    train, said = grammar(60), grammar(40, seed=5)
    constant = best_constant(train)
    scores = scores_of(said, spoiled(said), constant=constant, slots=SLOTS)
    as_answers = scores_of(said, [" ".join(constant)] * 40, constant=constant, slots=SLOTS)
    for name in ("wer", "cer", "sentence_accuracy"):
        assert scores.scores[name].floor == as_answers.scores[name].value == as_answers.scores[name].floor
    assert scores.scores["wer"].floor == edits(constant, said) / 120
    for row, floor in zip(scores.tables["slots"], as_answers.tables["slots"], strict=True):
        assert row["floor"] == floor["recall"]


def test_perfect_and_empty_answers():
    said = grammar(20)
    perfect = scores_of(said, said, slots=SLOTS)
    assert [perfect.scores[name].value for name in ("wer", "cer", "sentence_accuracy")] == [0, 0, 1]
    assert all(score.low == score.value == score.high for score in perfect.scores.values())
    assert all(row["recall"] == row["low"] == row["high"] == 1 for row in perfect.tables["slots"])
    silent = scores_of(said, [""] * 20)
    assert [silent.scores[name].value for name in ("wer", "cer", "sentence_accuracy")] == [1, 1, 0]
    assert {row["missed"] == row["support"] for row in silent.tables["words"]} == {True}


def test_error_rates_may_exceed_one():
    scores = scores_of(["bin"], ["set red six"], constant=()).scores
    assert scores["wer"].value == 3 and scores["wer"].floor == 1


def test_white_space_separates_words_and_is_one_character():
    assert scores_of(["bin  blue", " "], [" bin blue\n", ""], constant=()).scores["cer"].value == 0
    assert scores_of(["bin blue"], ["binblue"], constant=()).scores["cer"].value == 1 / 8


@pytest.mark.parametrize("seed", range(3))
def test_against_jiwer(seed):
    jiwer = pytest.importorskip("jiwer")
    said = grammar(30, seed)
    heard = spoiled(said, rate=0.5, seed=seed)
    scores = scores_of(said, heard)
    assert scores.scores["wer"].value == pytest.approx(jiwer.wer(said, heard))
    assert scores.scores["cer"].value == pytest.approx(jiwer.cer(said, heard))
    want = jiwer.process_words(said, heard)
    row = scores.tables["edits"][0]
    # Ties are broken for more hits here: (replaced) can be (missed, put in) as long as the sum is the same.
    assert row["substitutions"] + row["deletions"] + row["insertions"] == round(want.wer * row["reference_words"])
    assert row["hits"] >= want.hits


def test_slot_without_a_word_in_the_split():
    rows = scores_of(slots=(*SLOTS, ("adverb", ("now", "please")))).tables["slots"]
    assert rows[-1] == {"slot": "adverb", "support": 0, "recall": 0.0, "low": 0.0, "high": 0.0, "floor": 0.0}
    assert "slots" not in scores_of().tables


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="5 references, 4 hypotheses and 5 clips"):
        scores_of(heard=HEARD[:4])
    with pytest.raises(ValueError, match="5 references, 5 hypotheses and 2 clips"):
        scores_of(clips=["a", "b"])
    for said in ([], ["", " "]):
        with pytest.raises(ValueError, match=f"no word in {len(said)} references"):
            scores_of(said, ["bin"] * len(said))
    with pytest.raises(ValueError, match="word 'red' is in two slots"):
        scores_of(slots=(*SLOTS, ("mood", ("red", "sad"))))


# Intervals


@pytest.mark.parametrize("name", ["wer", "cer", "sentence_accuracy"])
def test_interval_contains_the_value(name):
    said = grammar(100)
    score = scores_of(said, spoiled(said)).scores[name]
    assert 0 <= score.low < score.value < score.high <= 1 and score.high - score.low < 0.25


def test_intervals_of_slots_contain_their_recalls():
    said = grammar(100)
    rows = scores_of(said, spoiled(said), slots=SLOTS).tables["slots"]
    assert [row["slot"] for row in rows] == ["command", "colour", "digit"]
    assert all(row["low"] < row["recall"] < row["high"] and row["high"] - row["low"] < 0.25 for row in rows)


def test_interval_is_that_of_a_ratio_of_sums():
    # Sentences of 1 and of 3 words; the variance of a ratio by the delta method.
    rng = np.random.default_rng(0)
    said = [" ".join(["bin"] * n) for n in rng.choice([1, 3], 400)]
    heard = [text if rng.random() < 0.6 else text.replace("bin", "set", 1) for text in said]
    words_N = np.array([len(text.split()) for text in said])
    edits_N = np.array([a != b for a, b in zip(said, heard, strict=True)])
    rate = edits_N.sum() / words_N.sum()
    error = 1.96 * np.sqrt(((edits_N - rate * words_N) ** 2).mean() / 400) / words_N.mean()
    score = scores_of(said, heard).scores["wer"]
    np.testing.assert_allclose([score.low, score.high], [rate - error, rate + error], atol=0.15 * error)


def test_interval_is_taken_over_clips():
    said = ["bin blue"] * 200
    heard = ["bin blue" if i // 10 % 2 else "bin red" for i in range(200)]
    by_clip, alone = (scores_of(said, heard, clips).scores["wer"] for clips in (np.arange(200) // 10, np.arange(200)))
    assert by_clip.value == alone.value == 0.25
    assert by_clip.high - by_clip.low > 2 * (alone.high - alone.low)


# The floor


@pytest.mark.parametrize("seed", range(3))
def test_constant_is_no_worse_than_any_training_sentence_or_silence(seed):
    train = grammar(80, seed)
    constant = best_constant(train)
    assert edits(constant, train) <= min(edits(text.split(), train) for text in {*train, ""})
    assert edits(constant, train) <= edits((), train) == 3 * len(train)


@pytest.mark.parametrize("seed", range(4))
def test_constant_is_the_best_of_all_answers(seed):
    rng = np.random.default_rng(seed)
    train = [" ".join(rng.choice(["a", "b", "c"], rng.integers(0, 5), p=[0.5, 0.3, 0.2])) for _ in range(30)]
    ids_RN, tokens_RN = pad_ids([["abc".index(word) for word in text.split()] for text in train])
    every = itertools.chain.from_iterable(itertools.product(range(3), repeat=n) for n in range(6))
    fewest = min(int(distances(ids_RN, tokens_RN, answer).sum()) for answer in every)
    assert edits(best_constant(train), train) == fewest


def test_constant_can_be_one_that_nobody_said():
    # Each sentence has one word of its own; what they share is nearer to all of them than they are to each other.
    train = ["x blue two", "bin y two", "bin blue z"]
    assert best_constant(train) == ("bin", "blue", "two") and edits(best_constant(train), train) == 3


def test_constant_is_empty_where_nothing_is_shared():
    assert best_constant(["a b c", "", "", ""]) == () and best_constant([""]) == ()


def test_constant_does_not_depend_on_order_but_on_how_often():
    train = grammar(50)
    assert best_constant(train) == best_constant(train[::-1]) == best_constant(train * 3)
    assert best_constant(["a b"] * 3 + ["c d"] * 2) == ("a", "b")
    assert best_constant(["a b"] * 2 + ["c d"] * 3) == ("c", "d")


def test_constant_from_a_sample_is_judged_on_all(monkeypatch):
    train = grammar(300)
    want = best_constant(train)
    monkeypatch.setattr(sentences, "SEARCHED", 12)
    monkeypatch.setattr(sentences, "CANDIDATES", 5)
    monkeypatch.setattr(sentences, "FREQUENT", 4)
    assert edits(want, train) <= edits(best_constant(train), train) <= 3 * len(train)


def test_single_edits_of_an_answer_have_the_edits_that_they_are_said_to():
    train = [text.replace("blue", "blue red").replace("six", "") for text in grammar(15)]
    words = sorted({word for text in train for word in text.split()})
    ids = [[words.index(word) for word in text.split()] for text in train]
    ids_RN, tokens_RN = pad_ids(ids)
    corpus = sentences._Sentences(ids_RN=ids_RN, tokens_RN=tokens_RN, times_R=np.arange(15))
    seen = list(sentences._nearby([0, 3], corpus, range(len(words))))
    for found, answer in seen:
        assert found == sum(k * align_tokens(sentence, answer).edits for k, sentence in enumerate(ids))
    # Put in at three places, replaced at two, left out at two.
    assert len(seen) == 5 * len(words) + 2


def test_no_training_sentences_are_refused():
    with pytest.raises(ValueError, match="no training references"):
        best_constant([])


# Emissions


def test_emissions_by_hand():
    paths = [[0, 0, 1, 1, 2], [0, 0, 3]]
    masks = [np.array([1, 1, 1, 1, 0], bool), np.array([1, 1, 1], bool)]
    got = emission_statistics([np.eye(5)[path] for path in paths], masks)
    assert (got.frames, got.blank_ratio, got.distinct) == (7, 4 / 7, 2)
    other = emission_statistics([np.eye(5)[path] for path in paths], masks, blank=1)
    assert (other.blank_ratio, other.distinct) == (2 / 7, 2)


def test_emissions_do_not_depend_on_padding_or_batch():
    rng = np.random.default_rng(0)
    logits_BTK, frames_BT = rng.normal(size=(6, 5, 4)), rng.random((6, 5)) < 0.6
    want = emission_statistics(list(logits_BTK), list(frames_BT))
    assert emission_statistics([logits_BTK[:2], logits_BTK[2:]], [frames_BT[:2], frames_BT[2:]]) == want
    log_p_BTK = logits_BTK - np.log(np.exp(logits_BTK).sum(-1, keepdims=True))
    padded = np.pad(log_p_BTK, ((0, 0), (0, 3), (0, 0)), constant_values=9.0)
    assert emission_statistics([padded], [np.pad(frames_BT, ((0, 0), (0, 3)))]) == want


def test_a_collapsed_model_shows():
    logits = np.eye(4)[np.zeros(6, int)]
    got = emission_statistics([logits], [np.ones(6, bool)])
    assert (got.blank_ratio, got.distinct) == (1.0, 0)
    for clips in ([], [(logits, np.zeros(6, bool))]):
        with pytest.raises(ValueError, match=f"no real frame in {len(clips)} clips"):
            emission_statistics([a for a, _ in clips], [b for _, b in clips])
