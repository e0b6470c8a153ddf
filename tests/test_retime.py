"""Landmarks at other rates, the window of a word that nobody marked, and long clips in stretches."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.data.clips import DamagedClip, SpokenWord
from jaxlip.data.face import FaceClip, Rejections
from jaxlip.data.retime import retime
from jaxlip.data.stretches import put_together, stretches
from jaxlip.data.words import busiest, word_examples, word_guesses


def moving(times):
    """Landmarks [T, 2, 3] that move by one a second; points differ."""
    return (np.asarray(times)[:, None, None] + np.arange(6.0).reshape(1, 2, 3)).astype(np.float32)


def seen(times, hidden=()):
    return ~np.isin(np.arange(len(times)), hidden)


def test_frames_at_the_right_rate_are_left_alone():
    times = np.arange(20) / 25 + np.random.default_rng(0).uniform(-0.002, 0.002, 20)
    landmarks, detected = moving(times), seen(times, [3])
    same, known = retime(landmarks, detected, np.sort(times - times[0]), 25.0)
    assert same is landmarks and known is detected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 0.19), min_size=6, max_size=40))
def test_steady_motion_stays_steady_whatever_the_frame_times(steps):
    times = np.cumsum([0.0, *steps])
    found, detected = retime(moving(times), seen(times), times, 25.0)
    at = np.arange(len(found)) / 25
    assert detected.all() and times[-1] - 1 / 25 < at[-1] + 1e-6 and at[-1] <= times[-1] + 0.011
    # A list of frames that is steady at 25 already keeps its own times.
    np.testing.assert_allclose(found, moving(at), atol=2e-5 if len(found) != len(times) else 0.011)


def test_a_moment_has_a_face_if_both_its_neighbours_have():
    times = np.arange(31) / 30
    landmarks = moving(times)
    landmarks[12] = np.nan
    found, detected = retime(landmarks, seen(times, [12]), times, 25.0)
    # Frame 12 of 30 a second is the moment .4 s, which is number 10 at 25; its neighbours lie .04 s away, beyond it.
    assert np.flatnonzero(~detected).tolist() == [10]
    assert np.isnan(found[10]).all() and np.isfinite(found[[9, 11]]).all()


def test_holes_and_slow_videos():
    times = np.concatenate([np.arange(10), np.arange(20, 30)]) / 30
    found, detected = retime(moving(times), seen(times), times, 25.0)
    at = np.arange(len(found)) / 25
    inside = (at > 9 / 30 + 1e-6) & (at < 20 / 30 - 1e-6)
    assert (detected == ~inside).all() and np.isnan(found[inside]).all()
    for fps, fine in ((6.0, True), (4.0, False), (1.0, False)):
        times = np.arange(12) / fps
        if fine:
            assert retime(moving(times), seen(times), times, 25.0)[1].all()
        else:
            with pytest.raises(DamagedClip, match="frames a second are too few"):
                retime(moving(times), seen(times), times, 25.0)
    for bad in ([0, 0.1, 0.1], [0, np.nan, 1]):
        with pytest.raises(DamagedClip, match="do not increase"):
            retime(moving(bad), seen(bad), np.array(bad, float), 25.0)


def clip(frames, words=(), landmarks=None):
    landmarks = np.zeros((frames, 4, 3), np.float32) if landmarks is None else landmarks
    seen_T = np.ones(frames, bool)
    return FaceClip(name="a", split="", landmarks_TVC=landmarks, frames_T=seen_T, detected_T=seen_T, words=tuple(words))


def test_a_word_whose_time_is_known_is_asked_as_in_training():
    word = SpokenWord(text="bin", start=11.5, end=19.25)
    known = clip(60, [word])
    (asked,) = word_guesses(known, 29, SpokenWord(text="", start=word.start, end=word.end))
    (trained,) = word_examples(known, {"bin": 0}, 29, Rejections())
    assert (asked.first, asked.length) == (trained.first, trained.length)
    assert (asked.speech_T == trained.speech_T).all()


@pytest.mark.parametrize("frames, firsts", [(60, (0, 8, 31)), (29, (0, 0, 0)), (20, (0, 0, 0))])
def test_windows_inside_of_the_clip_hold_their_word_and_no_frame_outside_if_there_is_room(frames, firsts):
    """Words at the start, before the middle and at the end; one as long as the clip is all of it."""
    words = [SpokenWord(text="bin", start=s * frames / 60, end=(s + 9) * frames / 60) for s in (2, 18, 50)]
    examples = list(word_examples(clip(frames, words), {"bin": 0}, 29, Rejections(), centred=False))
    assert tuple(example.first for example in examples) == firsts
    for example, word in zip(examples, words, strict=True):
        inside_T = np.arange(frames) >= example.first
        assert (word.frames(frames) & inside_T).sum() == word.frames(frames).sum()
        (asked,) = word_guesses(clip(frames), 29, word, centred=False)
        assert asked.first == example.first


@pytest.mark.parametrize("frames", [12, 29, 90])
def test_a_word_whose_time_is_not_known_is_looked_for(frames):
    still = clip(frames)
    if frames > 29:
        # The mouth moves in frames 50 to 69; the head all the time.
        still.landmarks_TVC[:, :, 0] += np.linspace(0, 5, frames)[:, None]
        still.landmarks_TVC[50:70, 1, 1] += np.arange(20) % 2
        assert 41 <= busiest(still, 29) <= 50
    asked = word_guesses(still, 29, None)
    assert len(asked) == 3 and len({question.first for question in asked}) <= 2
    for question, length in zip(asked, (6, 9, 13), strict=True):
        assert abs(question.speech_T.sum() - min(length, frames)) <= 1
        middle = np.flatnonzero(question.speech_T).mean() + 0.5
        assert abs(middle - (frames / 2 if frames <= 29 else 60)) <= (1 if frames <= 29 else 6)


@pytest.mark.parametrize("frames", [5, 75, 76, 200, 1000])
def test_stretches_cover_the_clip_and_fit_together_again(frames):
    parts = stretches(clip(frames), 75)
    covered = np.zeros(frames, int)
    for part in parts:
        assert part.length == min(75, frames)
        covered[part.first : part.first + part.length] += 1
    assert covered.min() >= 1 and len(parts) == (1 if frames <= 75 else -(-(frames - 75) // 50) + 1)
    whole_TK = np.random.default_rng(0).normal(size=(frames, 5)).astype(np.float32)
    padding = ((0, 75 - parts[0].length), (0, 0))
    pieces = [np.pad(whole_TK[part.first : part.first + part.length], padding)[None] for part in parts]
    length = 75 if len(parts) == 1 else -(-frames // 75) * 75
    known = whole_TK - np.log(np.exp(whole_TK).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(put_together(pieces, parts, length)[0, :frames], known, atol=1e-5)


def test_stretches_end_at_their_weight():
    """Where two stretches disagree, each counts the more the further its end is away."""
    whole = stretches(clip(9), 9)[0]
    parts = [dataclasses.replace(whole, first=first, length=6) for first in (0, 3)]
    logits = [np.tile(np.log([0.5, 0.5]), (1, 6, 1)), np.tile(np.log([0.9, 0.1]), (1, 6, 1))]
    mixed_T = put_together(logits, parts, 9)[0, :, 0]
    share_T = (mixed_T - np.log(0.5)) / (np.log(0.9) - np.log(0.5))
    np.testing.assert_allclose(share_T, [0, 0, 0, 1 / 4, 2 / 4, 3 / 4, 1, 1, 1], atol=1e-6)
