"""The order of batches, length buckets, and the fingerprint of a corpus."""

import collections
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.config import Component
from jaxlip.data.assemble import assemble
from jaxlip.data.batches import Corpus, FaceBatch, Split, bucket_of, epoch_plan, sequential_plan, steps_per_epoch
from jaxlip.data.face import Example, FaceClip, FaceData
from jaxlip.errors import UserError


def split_of(*sizes) -> Split:
    """A split without arrays: only how many examples each bucket holds."""
    names = tuple(tuple(f"{b}-{i}" for i in range(size)) for b, size in enumerate(sizes))
    return Split(buckets=(None,) * len(sizes), names=names)


def seen(plan) -> collections.Counter:
    return collections.Counter(
        (dispatch.bucket, int(row)) for dispatch in plan for row in dispatch.rows_KB.ravel() if row >= 0
    )


SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=3)


@given(sizes=SIZES, batch=st.integers(1, 9), per_dispatch=st.integers(1, 5), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=100)
def test_an_epoch_holds_every_example_once(sizes, batch, per_dispatch, seed):
    split = split_of(*sizes)
    plan = epoch_plan(split, batch=batch, per_dispatch=per_dispatch, seed=seed, epoch=1)
    assert seen(plan) == {(b, i): 1 for b, size in enumerate(sizes) for i in range(size)}
    assert sum(dispatch.steps for dispatch in plan) == steps_per_epoch(split, batch)
    for dispatch in plan:
        assert dispatch.rows_KB.shape == (per_dispatch, batch) and dispatch.rows_KB.dtype == np.int32
        real_KB = dispatch.rows_KB >= 0
        # Every step has a real example, and what only keeps the shape has none.
        assert real_KB.any(axis=1).tolist() == [k < dispatch.steps for k in range(per_dispatch)]
    filled = [row for dispatch in plan for row in (dispatch.rows_KB >= 0).sum(axis=1).tolist() if row]
    # At most one batch of a bucket is not full.
    assert sum(count < batch for count in filled) <= sum(size % batch > 0 for size in sizes)


@given(sizes=SIZES, batch=st.integers(1, 9))
@settings(deadline=None, max_examples=50)
def test_sequential_plan_keeps_the_order(sizes, batch):
    plan = list(sequential_plan(split_of(*sizes), batch=batch))
    assert all(rows_B.shape == (batch,) for _, rows_B in plan)
    order = [(bucket, int(row)) for bucket, rows_B in plan for row in rows_B if row >= 0]
    assert order == [(b, i) for b, size in enumerate(sizes) for i in range(size)]
    assert len(plan) == steps_per_epoch(split_of(*sizes), batch)


def plan_rows(**changes) -> list:
    settings = {"batch": 4, "per_dispatch": 2, "seed": 3, "epoch": 5} | changes
    return [(dispatch.bucket, dispatch.rows_KB.tolist()) for dispatch in epoch_plan(split_of(40, 30), **settings)]


def test_an_epoch_follows_from_seed_and_number_alone():
    assert plan_rows() == plan_rows()
    assert plan_rows() != plan_rows(epoch=6)
    assert plan_rows() != plan_rows(seed=4)


def test_examples_and_dispatches_are_shuffled():
    plans = [plan_rows(epoch=epoch) for epoch in range(20)]
    assert len({plan[0][0] for plan in plans}) == 2
    first = collections.Counter(row for plan in plans for bucket, rows in plan if bucket == 0 for row in rows[0][:1])
    assert len(first) > 20


@pytest.mark.parametrize("length,want", [(1, 29), (29, 29), (30, 48), (75, 75), (76, None)])
def test_bucket_is_the_smallest_that_fits(length, want):
    assert bucket_of(length, (75, 29, 48)) == want


# Examples of several lengths


def example(length, *, first=0, frames=100, label=0, speech=(2, 4)) -> Example:
    rng = np.random.default_rng(length)
    clip = FaceClip(
        name=f"clip{length}",
        split="train",
        landmarks_TVC=rng.normal(size=(frames, 5, 3)).astype(np.float32),
        frames_T=np.arange(frames) != 3,
        detected_T=np.arange(frames) % 5 != 3,
        words=(),
    )
    return Example(
        clip=clip,
        name=f"clip{length}#0",
        first=first,
        length=length,
        speech_T=np.isin(np.arange(frames), first + np.arange(*speech)),
        label=label,
    )


def test_examples_go_to_the_smallest_bucket_that_fits_in_their_order():
    lengths = [40, 10, 29, 75, 48, 30]
    examples = [example(length, label=k) for k, length in enumerate(lengths)]
    split = assemble(examples, FaceData(buckets=(75, 29, 48)).buckets)
    assert [bucket.landmarks_BTVC.shape[1] for bucket in split.buckets] == [29, 48, 75]
    assert split.names == (("clip10#0", "clip29#0"), ("clip40#0", "clip48#0", "clip30#0"), ("clip75#0",))
    assert [bucket.target.tolist() for bucket in split.buckets] == [[1, 2], [0, 4, 5], [3]]
    assert len(split) == 6 and all(bucket.examples_B.all() for bucket in split.buckets)


def test_a_row_is_the_clip_then_padding():
    chosen = example(40, first=20)
    (bucket,) = assemble([chosen], (48,)).buckets
    np.testing.assert_array_equal(bucket.landmarks_BTVC[0, :40], chosen.clip.landmarks_TVC[20:60])
    np.testing.assert_array_equal(bucket.detected_BT[0, :40], chosen.clip.detected_T[20:60])
    assert bucket.frames_BT[0].tolist() == [t < 40 for t in range(48)]
    assert not bucket.landmarks_BTVC[0, 40:].any() and not bucket.detected_BT[0, 40:].any()
    assert np.flatnonzero(bucket.speech_BT[0]).tolist() == [2, 3]


def test_speech_is_marked_in_real_frames_only():
    (bucket,) = assemble([example(10, speech=(1, 6))], (29,)).buckets
    assert np.flatnonzero(bucket.speech_BT[0]).tolist() == [1, 2, 4, 5]


def test_an_example_longer_than_every_bucket_is_named():
    with pytest.raises(UserError, match="clip80#0 has 80 frames; the longest of data.buckets is 75"):
        assemble([example(80)], (29, 75))


def test_a_window_that_no_bucket_holds_is_refused():
    with pytest.raises(ValueError, match=r"FaceData\.buckets=.*window of 50"):
        FaceData(window=50, buckets=(29, 48))


# Fingerprint


def corpus(**changes) -> Corpus:
    rng = np.random.default_rng(0)
    arrays = {
        "landmarks_BTVC": rng.normal(size=(2, 4, 3, 3)).astype(np.float32),
        "frames_BT": np.ones((2, 4), bool),
        "detected_BT": np.ones((2, 4), bool),
        "speech_BT": np.zeros((2, 4), bool),
        "target": np.array([0, 1], np.int32),
        "examples_B": np.ones(2, bool),
    }
    split = Split(buckets=(FaceBatch(**arrays | changes),), names=(("a", "b"),))
    return Corpus(splits={"train": split}, spec=Component(), counts={})


def test_equal_data_have_equal_fingerprints():
    assert corpus().fingerprint == corpus().fingerprint
    assert dataclasses.replace(corpus(), counts={"clips": 3}, notes=("read",)).fingerprint == corpus().fingerprint


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(FaceBatch)])
def test_fingerprint_feels_one_changed_value_of_every_array(field):
    array = np.array(getattr(corpus().splits["train"].buckets[0], field))
    array.flat[-1] = ~array.flat[-1] if array.dtype == bool else array.flat[-1] + 1
    assert corpus(**{field: array}).fingerprint != corpus().fingerprint


def test_fingerprint_feels_names_splits_shapes_and_order():
    base = corpus()
    (bucket,) = base.splits["train"].buckets
    renamed = Split(buckets=(bucket,), names=(("a", "c"),))
    swapped = Split(buckets=(bucket,), names=(("b", "a"),))
    variants = [
        base,
        dataclasses.replace(base, splits={"train": renamed}),
        dataclasses.replace(base, splits={"train": swapped}),
        dataclasses.replace(base, splits={"val": base.splits["train"]}),
        corpus(landmarks_BTVC=bucket.landmarks_BTVC.reshape(2, 4, 9, 1)),
        corpus(landmarks_BTVC=bucket.landmarks_BTVC[::-1]),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)
