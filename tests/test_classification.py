"""Scores of a classifier, their floors and intervals, and cross entropy, against brute force and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlip.losses.cross_entropy import cross_entropy
from jaxlip.metrics.classification import (
    accuracy,
    balanced_accuracy,
    class_f1,
    classification_scores,
    confusion_matrix,
    macro_f1,
    rank_of_truth,
)
from jaxlip.metrics.mergeable import Mean
from jaxlip.metrics.scores import Score, bootstrap

# Ten examples of three classes: a is right in 4 of 5, b in 1 of 3, c in 2 of 2.
TRUTH = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
GUESS = np.array([0, 0, 0, 0, 1, 1, 0, 2, 2, 2])
CONFUSION = np.array([[4, 1, 0], [1, 1, 1], [0, 0, 2]])
CLASSES = ("a", "b", "c")


def sure_of(guess_N, classes=3):
    return np.eye(classes, dtype=np.float32)[guess_N] * 5


def scores_of(guess_N=GUESS, truth_N=TRUTH, train=(1, 1, 0), classes=CLASSES, groups_N=None, logits_NK=None):
    logits_NK = sure_of(guess_N, len(classes)) if logits_NK is None else logits_NK
    groups_N = np.arange(len(truth_N)) if groups_N is None else groups_N
    return classification_scores(logits_NK, truth_N, groups_N, np.array(train), classes)


def test_confusion_by_hand():
    np.testing.assert_array_equal(confusion_matrix(TRUTH, GUESS, 3), CONFUSION)
    np.testing.assert_array_equal(scores_of().confusion_KK, CONFUSION)


def test_weights_count_examples_again():
    weights_N = np.array([2, 0, 1, 3, 1, 0, 2, 1, 1, 4])
    want = confusion_matrix(np.repeat(TRUTH, weights_N), np.repeat(GUESS, weights_N), 3)
    np.testing.assert_array_equal(confusion_matrix(TRUTH, GUESS, 3, weights_N), want)


def test_measures_by_hand():
    assert accuracy(CONFUSION) == pytest.approx(7 / 10)
    assert balanced_accuracy(CONFUSION) == pytest.approx((4 / 5 + 1 / 3 + 2 / 2) / 3)
    # F1 = 2 hits / (support + guesses): a 8 / (5 + 5), b 2 / (3 + 2), c 4 / (2 + 3).
    np.testing.assert_allclose(class_f1(CONFUSION), [0.8, 0.4, 0.8])
    assert macro_f1(CONFUSION) == pytest.approx(2 / 3)


def test_classes_that_never_occur_are_left_out_of_the_means():
    # d is never said nor guessed; e is guessed once but never said.
    confusion_KK = np.zeros((5, 5))
    confusion_KK[:3, :3] = CONFUSION
    confusion_KK[0, 4] = 1
    assert balanced_accuracy(confusion_KK) == pytest.approx((4 / 6 + 1 / 3 + 1) / 3)
    assert macro_f1(confusion_KK) == pytest.approx((8 / 11 + 0.4 + 0.8 + 0) / 4)


def test_no_examples_score_zero():
    assert accuracy(np.zeros((3, 3))) == balanced_accuracy(np.zeros((3, 3))) == macro_f1(np.zeros((3, 3))) == 0


def test_rank_against_sorting():
    logits_NK = np.random.default_rng(0).permutation(200).reshape(20, 10).astype(np.float32)
    truth_N = np.random.default_rng(1).integers(0, 10, 20)
    want = [sorted(row, reverse=True).index(row[k]) for row, k in zip(logits_NK.tolist(), truth_N, strict=True)]
    assert rank_of_truth(logits_NK, truth_N).tolist() == want


def test_a_tie_counts_against_the_model():
    logits_NK = np.array([[1, 1, 0], [1, 1, 0], [2, 2, 2]], np.float32)
    assert rank_of_truth(logits_NK, np.array([0, 2, 1])).tolist() == [1, 2, 2]


def test_values_of_every_score():
    scores = scores_of().scores
    want = {
        "accuracy": accuracy(CONFUSION),
        "macro_f1": macro_f1(CONFUSION),
        "balanced_accuracy": balanced_accuracy(CONFUSION),
        "top5": 1.0,
    }
    assert {name: score.value for name, score in scores.items()} == pytest.approx(want)


def test_top5_by_hand():
    logits_NK = np.tile(np.arange(8.0, 0, -1).astype(np.float32), (4, 1))
    scores = scores_of(truth_N=np.array([0, 4, 5, 7]), logits_NK=logits_NK, classes=tuple("abcdefgh"))
    assert scores.scores["top5"].value == 0.5 and scores.scores["accuracy"].value == 0.25


def test_floor_answers_with_the_majority_of_the_training_labels():
    # b is most frequent in training, a in the split itself: the floor may not know the latter.
    floors = {name: score.floor for name, score in scores_of(train=[1, 1, 1, 0, 2]).scores.items()}
    assert floors["accuracy"] == pytest.approx(3 / 10)
    assert floors["balanced_accuracy"] == pytest.approx(1 / 3)
    assert floors["macro_f1"] == pytest.approx((0 + 2 * 3 / (3 + 10) + 0) / 3)
    assert scores_of(train=[0, 0, 1]).scores["accuracy"].floor == pytest.approx(5 / 10)


def test_floor_of_top5_takes_the_five_most_frequent_training_labels():
    train = [7] * 9 + [6] * 8 + [5] * 7 + [4] * 6 + [3] * 5 + [2, 1, 0]
    truth_N = np.array([0, 0, 1, 3, 7, 7])
    scores = scores_of(guess_N=np.zeros(6, int), truth_N=truth_N, train=train, classes=tuple("abcdefgh"))
    assert scores.scores["top5"].floor == pytest.approx(3 / 6)


@pytest.mark.parametrize("name", ["accuracy", "top5", "macro_f1", "balanced_accuracy"])
def test_interval_contains_the_value(name):
    rng = np.random.default_rng(0)
    truth_N = rng.integers(0, 8, 120)
    guess_N = np.where(rng.random(120) < 0.6, truth_N, rng.integers(0, 8, 120))
    logits_NK = sure_of(guess_N, 8) + rng.normal(size=(120, 8)).astype(np.float32)
    score = scores_of(logits_NK=logits_NK, truth_N=truth_N, classes=tuple("abcdefgh")).scores[name]
    assert 0 <= score.low < score.value < score.high <= 1 and score.high - score.low < 0.3


def test_interval_of_a_mean_is_that_of_the_normal_distribution():
    hit_N = np.arange(400) % 4 > 0
    low, high = bootstrap(lambda weights_N: float(np.average(hit_N, weights=weights_N)), np.arange(400), draws=2000)
    error = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    np.testing.assert_allclose([low, high], [0.75 - error, 0.75 + error], atol=0.1 * error)


def test_interval_is_taken_over_clips():
    # Ten words a clip, all right or all wrong: forty clips, not four hundred words.
    hit_N = np.repeat(np.arange(40) % 2, 10)
    clips_N = np.repeat([f"clip{i}" for i in range(40)], 10)

    def width(groups_N):
        low, high = bootstrap(lambda weights_N: float(np.average(hit_N, weights=weights_N)), groups_N)
        return high - low

    assert width(clips_N) == pytest.approx(np.sqrt(10) * width(np.arange(400)), rel=0.15)


def test_scores_resample_the_groups_that_they_are_given():
    truth_N = np.repeat(np.arange(20) % 2, 8)
    guess_N = np.repeat(np.where(np.arange(20) < 12, np.arange(20) % 2, 1 - np.arange(20) % 2), 8)
    by_clip, by_word = (
        scores_of(guess_N, truth_N, classes=("a", "b"), groups_N=groups_N).scores["accuracy"]
        for groups_N in (np.repeat(np.arange(20), 8), np.arange(160))
    )
    assert by_clip.value == by_word.value == 0.6
    assert by_clip.high - by_clip.low > 2 * (by_word.high - by_word.low)


def test_table_has_a_row_a_class_most_frequent_first():
    a, b, c = scores_of().tables["words"]
    assert [row["word"] for row in (a, b, c)] == ["a", "b", "c"]
    assert a == {"word": "a", "support": 5, "precision": 0.8, "recall": 0.8, "f1": 0.8, "taken_for": "b"}
    assert (b["support"], b["precision"], b["recall"]) == (3, 0.5, pytest.approx(1 / 3))
    assert (c["recall"], c["precision"], c["taken_for"]) == (1.0, pytest.approx(2 / 3), "")


@pytest.mark.parametrize("bad", [np.full((10, 3), np.nan, np.float32), np.zeros((10, 4), np.float32)])
def test_logits_that_cannot_be_scored_are_refused(bad):
    with pytest.raises(ValueError, match="logits of shape"):
        scores_of(logits_NK=bad)


def test_a_score_reads_with_its_interval_and_floor():
    assert str(Score(value=0.5, low=0.4, high=0.6, floor=0.25)) == "0.5000  [0.4000, 0.6000]   floor 0.2500"
    assert "floor" not in str(Score(value=0.5, low=0.4, high=0.6))


# Cross entropy


@pytest.fixture
def logits_and_labels():
    rng = np.random.default_rng(2)
    return rng.normal(0, 3, (6, 5)).astype(np.float32), rng.integers(0, 5, 6)


def target(labels_B, smoothing, classes=5):
    return (1 - smoothing) * np.eye(classes)[labels_B] + smoothing / classes


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_cross_entropy_and_its_gradient(logits_and_labels, smoothing):
    logits_BK, labels_B = logits_and_labels
    odds_BK = np.exp(logits_BK.astype(np.float64))
    p_BK = odds_BK / odds_BK.sum(axis=1, keepdims=True)
    q_BK = target(labels_B, smoothing)
    args = jnp.asarray(logits_BK), jnp.asarray(labels_B)
    np.testing.assert_allclose(cross_entropy(*args, smoothing=smoothing), -(q_BK * np.log(p_BK)).sum(axis=1), rtol=1e-5)
    d_BK = jax.grad(lambda logits: cross_entropy(logits, args[1], smoothing=smoothing).sum())(args[0])
    np.testing.assert_allclose(d_BK, p_BK - q_BK, atol=1e-6)


def test_cross_entropy_of_knowing_nothing_is_log_k():
    labels_B = jnp.array([0, 3])
    np.testing.assert_allclose(cross_entropy(jnp.full((2, 7), 4.0), labels_B, smoothing=0.2), np.log(7), rtol=1e-6)


def test_huge_logits_stay_finite_and_half_precision_is_summed_in_single():
    big = cross_entropy(jnp.array([[1e4, -1e4]]), jnp.array([1]))
    np.testing.assert_allclose(big, [2e4])
    half = cross_entropy(jnp.array([[0.5, -0.25]], jnp.bfloat16), jnp.array([0]))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, [np.log1p(np.exp(-0.75))], rtol=1e-6)


# Mergeable means


@pytest.mark.parametrize("cuts", [(), (3,), (1, 2, 6), (7,)])
def test_mean_does_not_depend_on_batching(cuts):
    values_B = np.array([1, 2, 4, 8, 16, 32, 64, 1e6], np.float32)
    mask_B = np.array([1, 1, 0, 1, 1, 0, 1, 0], bool)
    parts = zip(np.split(values_B, cuts), np.split(mask_B, cuts), strict=True)
    total, *others = [Mean.of(jnp.asarray(v), jnp.asarray(m)) for v, m in parts]
    for other in others:
        total = total.merge(other)
    assert float(total.value) == pytest.approx((1 + 2 + 8 + 16 + 64) / 5) and float(total.weight) == 5


def test_mean_over_nothing_is_zero_and_nan_under_the_mask_is_nothing():
    assert float(Mean.of(jnp.array([jnp.nan]), jnp.array([False])).value) == 0
    assert float(Mean.of(jnp.array([3.0, jnp.nan]), jnp.array([True, False])).value) == 3


def test_mean_of_hits_is_a_rate():
    assert float(Mean.of(jnp.array([True, False, True, True]), jnp.ones(4, bool)).value) == 0.75
