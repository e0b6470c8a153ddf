"""CTC beam search and the best path against the sum over all alignments, by enumeration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.decode.beam import Hypothesis, beam_search
from jaxlip.decode.greedy import greedy
from jaxlip.decode.rescore import rescore
from jaxlip.decode.scorers import Sum, always
from jaxlip.errors import UserError


def posteriors(seed, clips, frames, tokens, sharpness=1.0):
    logits_BTK = sharpness * np.random.default_rng(seed).normal(size=(clips, frames, tokens))
    return logits_BTK - np.log(np.exp(logits_BTK).sum(axis=-1, keepdims=True))


def everything(log_p_BTK):
    return np.ones(log_p_BTK.shape[:2], bool)


def collapse(path, blank=0):
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


def exhaustive(log_p_TK, blank=0):
    """Token sequence -> log of the total probability of its alignments."""
    total: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_p_TK.shape[1]), repeat=len(log_p_TK)):
        tokens = collapse(path, blank)
        p = math.exp(sum(log_p_TK[t, token] for t, token in enumerate(path)))
        total[tokens] = total.get(tokens, 0.0) + p
    return {tokens: math.log(p) for tokens, p in total.items() if p > 0}


class Bigram:
    """A scorer with a table [K + 1, K]: score of a token after the last one (K: none); column 0 is the end."""

    def __init__(self, table):
        self.table = table

    def start(self):
        return len(self.table) - 1

    def extend(self, states, tokens):
        scores = self.table[states, tokens]
        return np.broadcast_to(tokens, scores.shape).copy(), scores

    def may_end(self, states, tokens, frames):
        return always(states, tokens, frames)

    def finish(self, states):
        return self.table[states, 0]

    def total(self, tokens):
        pairs = itertools.pairwise((self.start(), *tokens, 0))
        return sum(self.table[pair] for pair in pairs)


def random_bigram(seed, tokens, forbidden=0.0):
    rng = np.random.default_rng(seed)
    table = rng.normal(0, 2, (tokens + 1, tokens))
    table[rng.random(table.shape) < forbidden] = -np.inf
    return Bigram(table)


@pytest.mark.parametrize("frames, tokens, blank", [(1, 2, 0), (5, 2, 0), (5, 3, 0), (5, 3, 2), (4, 4, 1), (5, 4, 0)])
def test_a_wide_beam_finds_every_sequence_with_its_total_probability(frames, tokens, blank):
    log_p_BTK = posteriors(frames, 3, frames, tokens)
    lists = beam_search(log_p_BTK, everything(log_p_BTK), width=400, nbest=400, blank=blank)
    for log_p_TK, hypotheses in zip(log_p_BTK, lists, strict=True):
        want = exhaustive(log_p_TK, blank)
        assert {h.tokens: h.ctc for h in hypotheses} == pytest.approx(want)
        assert sum(math.exp(h.ctc) for h in hypotheses) == pytest.approx(1)


@pytest.mark.parametrize("forbidden", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_fusion_finds_the_best_sum(seed, forbidden):
    log_p_BTK = posteriors(seed, 2, 5, 4)
    scorer = random_bigram(seed + 10, 4, forbidden)
    lists = beam_search(log_p_BTK, everything(log_p_BTK), width=400, nbest=400, scorer=scorer)
    for log_p_TK, hypotheses in zip(log_p_BTK, lists, strict=True):
        want = {tokens: p + scorer.total(tokens) for tokens, p in exhaustive(log_p_TK).items()}
        want = {tokens: score for tokens, score in want.items() if score > -math.inf}
        assert {h.tokens: h.score for h in hypotheses} == pytest.approx(want)
        assert all(h.lm == pytest.approx(scorer.total(h.tokens)) for h in hypotheses)
        if want:
            assert hypotheses[0].tokens == max(want, key=lambda tokens: want[tokens])


def test_a_sum_of_scorers_is_the_sum_of_their_scores():
    log_p_BTK = posteriors(0, 3, 5, 4)
    scorers = [random_bigram(1, 4), random_bigram(2, 4, forbidden=0.3), random_bigram(3, 4)]
    both = Bigram(sum(scorer.table for scorer in scorers))
    got, want = (
        beam_search(log_p_BTK, everything(log_p_BTK), width=12, nbest=12, scorer=scorer)
        for scorer in (Sum([scorers[0], Sum(scorers[1:])]), both)
    )
    assert [[h.tokens for h in row] for row in got] == [[h.tokens for h in row] for row in want]
    assert [h.score for row in got for h in row] == pytest.approx([h.score for row in want for h in row])


def test_an_empty_sum_changes_nothing():
    log_p_BTK = posteriors(0, 2, 5, 4)
    args = log_p_BTK, everything(log_p_BTK)
    assert beam_search(*args, width=5, nbest=5, scorer=Sum([])) == beam_search(*args, width=5, nbest=5)


def reference_search(log_p_TK, width):
    """Prefix beam search with dictionaries, prefix by prefix (Hannun et al., 2014, algorithm 1)."""
    beam = {(): (0.0, -np.inf)}
    for log_p_K in log_p_TK:
        grown: dict[tuple[int, ...], list[float]] = {}
        for prefix, (blank, token) in beam.items():
            total = np.logaddexp(blank, token)
            for k, log_p in enumerate(log_p_K):
                if k == 0:
                    moves = [(prefix, 0, total)]
                elif prefix and prefix[-1] == k:
                    moves = [(prefix, 1, token), ((*prefix, k), 1, blank)]
                else:
                    moves = [((*prefix, k), 1, total)]
                for after, kind, mass in moves:
                    cell = grown.setdefault(after, [-np.inf, -np.inf])
                    cell[kind] = np.logaddexp(cell[kind], mass + log_p)
        best = sorted(grown, key=lambda prefix: -np.logaddexp(*grown[prefix]))[:width]
        beam = {prefix: tuple(grown[prefix]) for prefix in best}
    return {prefix: np.logaddexp(*beam[prefix]) for prefix in beam if max(beam[prefix]) > -np.inf}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(1, 12),
    tokens=st.integers(2, 6),
    width=st.integers(1, 8),
    sharpness=st.sampled_from([0.3, 1.0, 4.0]),
)
def test_a_narrow_beam_is_that_of_the_textbook(seed, frames, tokens, width, sharpness):
    # Prefixes drop out of narrow beams and come back, beside extensions of theirs that stayed.
    log_p_BTK = posteriors(seed, 3, frames, tokens, sharpness)
    lists = beam_search(log_p_BTK, everything(log_p_BTK), width=width, nbest=width)
    for log_p_TK, hypotheses in zip(log_p_BTK, lists, strict=True):
        assert {h.tokens: h.ctc for h in hypotheses} == pytest.approx(reference_search(log_p_TK, width))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(0, 9), clips=st.integers(1, 5), width=st.integers(1, 6))
def test_frames_that_are_not_real_are_cut_out(seed, frames, clips, width):
    rng = np.random.default_rng(seed)
    log_p_BTK = posteriors(seed, clips, frames, 5)
    frames_BT = rng.random((clips, frames)) < 0.6
    log_p_BTK[~frames_BT] = rng.choice([np.nan, 5.0, np.inf])
    scorer = random_bigram(seed, 5, forbidden=0.1)
    together = beam_search(log_p_BTK, frames_BT, width=width, nbest=3, scorer=scorer, top_k=3)
    for log_p_TK, frames_T, hypotheses in zip(log_p_BTK, frames_BT, together, strict=True):
        alone = log_p_TK[frames_T][None]
        assert beam_search(alone, everything(alone), width=width, nbest=3, scorer=scorer, top_k=3) == [hypotheses]
        assert greedy(alone, everything(alone)) == [collapse(alone[0].argmax(axis=1))]
    assert greedy(np.nan_to_num(log_p_BTK), frames_BT) == [
        collapse(log_p_TK[frames_T].argmax(axis=1)) for log_p_TK, frames_T in zip(log_p_BTK, frames_BT, strict=True)
    ]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(1, 10),
    nbest=st.integers(1, 12),
    top_k=st.one_of(st.none(), st.integers(1, 7)),
)
def test_lists_are_sorted_and_distinct_and_parts_add_up(seed, width, nbest, top_k):
    log_p_BTK = posteriors(seed, 2, 10, 6)
    scorer = random_bigram(seed, 6)
    for hypotheses in beam_search(
        log_p_BTK, everything(log_p_BTK), width=width, nbest=nbest, top_k=top_k, scorer=scorer
    ):
        assert 1 <= len(hypotheses) <= min(width, nbest)
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({h.tokens for h in hypotheses}) == len(hypotheses)
        for h in hypotheses:
            assert h.score == pytest.approx(h.ctc + h.lm) and h.lm == pytest.approx(scorer.total(h.tokens))


def test_pruning_keeps_all_that_it_need_not_prune():
    log_p_BTK = posteriors(0, 3, 5, 4)
    whole = beam_search(log_p_BTK, everything(log_p_BTK), width=50, nbest=9)
    assert beam_search(log_p_BTK, everything(log_p_BTK), width=50, nbest=9, top_k=3) == whole


def test_pruned_tokens_extend_nothing():
    log_p_BTK = posteriors(1, 4, 6, 5)
    allowed = [{collapse(path) for path in itertools.product(*tried)} for tried in tried_tokens(log_p_BTK, 1)]
    lists = beam_search(log_p_BTK, everything(log_p_BTK), width=99, nbest=99, top_k=1)
    for legal, hypotheses in zip(allowed, lists, strict=True):
        assert {h.tokens for h in hypotheses} == legal


def tried_tokens(log_p_BTK, top_k):
    best_BTC = 1 + np.argsort(-log_p_BTK[:, :, 1:], axis=2)[:, :, :top_k]
    return [[[0, *tokens] for tokens in best_TC.tolist()] for best_TC in best_BTC]


def test_a_beam_of_one_follows_sure_frames_as_the_best_path_does():
    rng = np.random.default_rng(0)
    best_BT = rng.integers(0, 6, (20, 30))
    log_p_BTK = np.log(np.full((20, 30, 6), 1e-3))
    np.put_along_axis(log_p_BTK, best_BT[..., None], math.log(0.995), axis=2)
    frames_BT = rng.random((20, 30)) < 0.8
    tokens = [hypotheses[0].tokens for hypotheses in beam_search(log_p_BTK, frames_BT, width=1)]
    assert tokens == greedy(log_p_BTK, frames_BT)
    assert greedy(log_p_BTK, np.zeros((20, 30), bool)) == [()] * 20


def test_the_likeliest_sequence_need_not_be_the_best_path():
    # Two frames of blank 0.6 and a 0.4: the best path is empty (0.36), but a has 0.64.
    log_p_BTK = np.log([[[0.6, 0.4], [0.6, 0.4]]])
    assert greedy(log_p_BTK, everything(log_p_BTK)) == [()]
    (first, second) = beam_search(log_p_BTK, everything(log_p_BTK), width=2, nbest=2)[0]
    assert (first.tokens, second.tokens) == ((1,), ()) and math.exp(first.ctc) == pytest.approx(0.64)


def test_impossible_tokens_are_never_said():
    log_p_BTK = np.array([[[-np.inf, math.log(0.5), math.log(0.5)], [-np.inf, 0.0, -np.inf]]])
    lists = beam_search(log_p_BTK, everything(log_p_BTK), width=9, nbest=9)
    assert {h.tokens: math.exp(h.ctc) for h in lists[0]} == pytest.approx({(1,): 0.5, (2, 1): 0.5})


def test_no_legal_end_gives_an_empty_list():
    log_p_BTK = posteriors(0, 3, 4, 3)
    dead_end = Bigram(np.full((4, 3), -np.inf))
    assert beam_search(log_p_BTK, everything(log_p_BTK), width=4, scorer=dead_end) == [[], [], []]
    frames_BT = everything(log_p_BTK) & np.array([True, False, True])[:, None]
    must_speak = Bigram(np.zeros((4, 3)))
    must_speak.table[3, 0] = -np.inf
    counts = [len(row) for row in beam_search(log_p_BTK, frames_BT, width=4, scorer=must_speak)]
    assert counts == [1, 0, 1]


def test_no_frames_and_no_clips():
    empty = Hypothesis(tokens=(), score=0.0, ctc=0.0, lm=0.0)
    assert beam_search(np.zeros((2, 0, 3)), np.zeros((2, 0), bool), width=3, nbest=2) == [[empty], [empty]]
    assert beam_search(np.zeros((0, 4, 3)), np.zeros((0, 4), bool), width=3) == []
    assert greedy(np.zeros((2, 0, 3)), np.zeros((2, 0), bool)) == [(), ()]
    assert greedy(np.zeros((0, 4, 3)), np.zeros((0, 4), bool)) == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_low_precision_is_summed_in_double(dtype):
    log_p_BTK = posteriors(0, 2, 5, 3).astype(dtype)
    hypotheses = beam_search(log_p_BTK, everything(log_p_BTK), width=99, nbest=99)[0]
    assert {h.tokens: h.ctc for h in hypotheses} == pytest.approx(exhaustive(log_p_BTK[0].astype(float)))


@pytest.mark.parametrize("field", ["width", "top_k", "nbest"])
def test_counts_below_one_are_refused(field):
    with pytest.raises(UserError, match=f"{field}=0 must be 1 or more"):
        beam_search(np.zeros((1, 1, 2)), np.ones((1, 1), bool), **{"width": 2, field: 0})


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.0])
def test_what_is_no_log_probability_is_refused(value):
    log_p_BTK = posteriors(0, 2, 3, 3)
    log_p_BTK[1, 2, 1] = value
    with pytest.raises(ValueError, match="no log-probability; use log_softmax"):
        beam_search(log_p_BTK, everything(log_p_BTK), width=2)


# Rescoring


def hypothesis(tokens, ctc, lm=0.0):
    return Hypothesis(tokens=tokens, score=float(ctc + lm), ctc=float(ctc), lm=lm)


def test_rescoring_by_hand():
    nbest = [[hypothesis((1,), -1, -0.5), hypothesis((2,), -2), hypothesis((), -3)], [], [hypothesis((3,), -4)]]
    first, empty, last = rescore(nbest, np.array([[-3.0, -1, -np.inf], [0, 0, 0], [-2, 0, 0]]), weight=0.5)
    assert [(h.tokens, h.score, h.extra) for h in first] == [
        ((2,), -2.5, -0.5),
        ((1,), -3, -1.5),
        ((), -np.inf, -np.inf),
    ]
    assert (first[1].ctc, first[1].lm) == (-1, -0.5) and empty == []
    assert last == [Hypothesis(tokens=(3,), score=-5.0, ctc=-4.0, lm=0.0, extra=-1.0)]
    assert rescore(nbest, [[-3.0, -1.0, -np.inf], [], [-2.0]], weight=0.0) == nbest


def test_rescoring_with_the_same_head_is_its_weight():
    log_p_BTK = posteriors(0, 3, 6, 4)
    nbest = beam_search(log_p_BTK, everything(log_p_BTK), width=8, nbest=8)
    twice = rescore(nbest, [[h.ctc for h in row] for row in nbest], weight=1.0)
    assert [[h.tokens for h in row] for row in twice] == [[h.tokens for h in row] for row in nbest]
    assert all(h.score == pytest.approx(2 * h.ctc) for row in twice for h in row)


@pytest.mark.parametrize("extra", [[[1.0]], [[1.0, np.nan]], [[1.0, np.inf]], [[1.0, 2.0], [1.0, 2.0]]])
def test_extra_scores_that_do_not_fit_are_refused(extra):
    with pytest.raises(ValueError, match="extra scores"):
        rescore([[hypothesis((1,), -1), hypothesis((2,), -2)]], extra, weight=1.0)
