"""Affect from faces: planted in the built-in mouths, read from a manifest, learnt by a tiny model's first steps."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxlip.data.clips import ClipRef, DamagedClip
from jaxlip.data.face import FaceData, Rejections, face_clips
from jaxlip.data.face_affect import clip_examples, frame_examples, stack_frame_affect
from jaxlip.data.sources import manifest, visemes
from jaxlip.data.sources.visemes import Visemes
from jaxlip.errors import UserError
from jaxlip.models.graph_affect import GraphAffect
from jaxlip.tasks.face_affect import FaceAffect, labels_of

PLANTED = Visemes(words=4, train=24, val=8, test=8, affect=0.4, noise=0.0, dropped=0.0)


def test_planted_affect_shows_in_the_mouth_and_in_nothing_else():
    plain = dataclasses.replace(PLANTED, affect=0.0)
    assert all(visemes.load(plain, ref).affect is None for ref in list(visemes.find(plain))[:3])
    valence, change = [], []
    for ref in list(visemes.find(PLANTED))[:24]:
        clip, same = visemes.load(PLANTED, ref), visemes.load(plain, ref)
        assert clip.affect is not None and max(map(abs, clip.affect)) <= 1
        assert [word.text for word in clip.words] == [word.text for word in same.words]
        # The corners of the mouth (61 and 291), in pictures that are otherwise the same.
        width, usual = (float(np.ptp(c.landmarks[:, [61, 291], 0], axis=1).mean()) for c in (clip, same))
        valence.append(clip.affect[0])
        change.append(width / usual - 1)
    assert np.corrcoef(valence, change)[0, 1] > 0.6


def test_a_manifest_gives_valence_and_arousal(tmp_path):
    table = tmp_path / "manifest.csv"
    table.write_text("clip,split,label,valence,arousal\na,train,x,-0.5,1\nb,val,x,,\n")
    refs = manifest.read_table(table)
    assert [ref.affect for ref in refs] == [(-0.5, 1.0), None]
    for wrong in ("2,0", "0,", "a,0", "nan,0"):
        table.write_text(f"clip,split,label,valence,arousal\na,train,x,{wrong}\n")
        with pytest.raises(UserError, match="line 2: valence="):
            manifest.read_table(table)


def test_clips_without_labels_or_too_long_are_counted():
    data = FaceData(preset="lips40", visemes=dataclasses.replace(PLANTED, train=1, val=0, test=0))
    ((ref, clip),) = face_clips(data, Rejections())
    assert isinstance(ref, ClipRef)
    rejections = Rejections()
    assert list(clip_examples(dataclasses.replace(clip, affect=None), 75, rejections)) == []
    assert list(clip_examples(clip, 10, rejections)) == []
    assert set(rejections.counts()) == {
        "no valence and arousal",
        "longer than the 10 frames of the longest of data.buckets",
    }
    (example,) = clip_examples(clip, 75, rejections)
    assert example.label == clip.affect


def test_loss_and_scores_of_a_tiny_model():
    task = FaceAffect(model=GraphAffect(hidden=4))
    data = FaceData(preset="lips40", buckets=(48,), visemes=PLANTED)
    corpus = task.corpus(data)
    model = task.build(corpus.spec)
    assert {n: s.shape for n, s in task.build(task.shape_spec(data)).shapes()[0].items()} == {
        n: s.shape for n, s in model.shapes()[0].items()
    }
    batch = jax.tree.map(lambda array: jax.numpy.asarray(array), corpus.splits["test"].buckets[0])
    weights, state = jax.jit(model.init)(jax.random.key(0))

    def value(weights):
        return task.metrics(model.apply(weights, state, batch, None)[0], batch, train=False)["loss"].value

    loss, slopes = jax.jit(jax.value_and_grad(value))(weights)
    assert np.isfinite(loss) and all(np.isfinite(slope).all() for slope in slopes.values())
    split, train = corpus.splits["test"], corpus.splits["train"]
    scores = task.score(task.perfect(split, corpus.spec), split, train, corpus.spec).scores
    assert scores["ccc"].value == pytest.approx(1) and scores["valence/rmse"].value == pytest.approx(0, abs=1e-6)


def test_affect_that_moves_is_cut_padded_and_scored_frame_by_frame():
    moving = dataclasses.replace(PLANTED, affect_moves=True, train=8, val=4, test=4)
    data = FaceData(preset="lips40", buckets=(30,), visemes=moving)
    _, clip = next(face_clips(data, Rejections()))
    assert clip.affect.shape == (len(clip.frames_T), 2) and clip.affect.std(axis=0).min() > 0.05
    rejections = Rejections()
    first, second = frame_examples(clip, 30, rejections)
    assert (first.length, second.first, second.length) == (30, 30, len(clip.frames_T) - 30)
    unknown = np.where(np.arange(len(clip.affect))[:, None] < 30, np.nan, clip.affect)
    (late,) = frame_examples(dataclasses.replace(clip, affect=unknown), 30, rejections)
    assert late.first == 30 and rejections.counts() == {"no valence and arousal": 1}
    (whole,) = clip_examples(dataclasses.replace(clip, affect=unknown), 75, rejections)
    assert whole.label == pytest.approx(clip.affect[30:].mean(axis=0), abs=1e-6)
    stacked = stack_frame_affect([first.label, second.label], 30)
    assert stacked.known_BT.sum() == len(clip.affect) and not stacked.values_BTA[1, second.length :].any()

    # Where time is warped, labels go with the frames that they are of.
    later = jax.numpy.arange(30)[None] + 2.0
    moved = jax.tree.map(lambda leaf: leaf[:1], stacked).retimed(later)
    np.testing.assert_array_equal(moved.values_BTA[0, :28], first.label[2:])
    assert moved.known_BT[0, :28].all() and not moved.known_BT[0, 28:].any()

    task = FaceAffect(model=GraphAffect(hidden=4), by_frame=True)
    corpus = task.corpus(data)
    speakers = set(labels_of(corpus.splits["test"])[1])
    assert speakers == {clip.partition("/")[0] for clip in corpus.splits["test"].names[0]}
    model = task.build(corpus.spec)
    weights, state = jax.jit(model.init)(jax.random.key(0))
    split = corpus.splits["test"]
    batch = jax.tree.map(jax.numpy.asarray, split.buckets[0])
    outputs = jax.device_get(model.apply(weights, state, batch, None)[0])
    assert outputs.shape == (len(split), 30, 2)
    # Neither what is said of padding nor what is not known counts.
    counted = split.buckets[0].target.known_BT & split.buckets[0].frames_BT
    other = np.where(counted[..., None], outputs, 0.9)
    losses = [float(task.metrics(jax.numpy.asarray(o), batch, train=False)["loss"].value) for o in (outputs, other)]
    assert losses[0] == pytest.approx(losses[1])
    scores = task.score([other], split, corpus.splits["train"], corpus.spec)
    assert scores.count == counted.sum()
    want = np.sqrt(np.mean((outputs[counted] - split.buckets[0].target.values_BTA[counted]) ** 2, axis=0))
    assert scores.scores["valence/rmse"].value == pytest.approx(want[0], rel=1e-5)
    perfect = task.score(task.perfect(split, corpus.spec), split, corpus.splits["train"], corpus.spec).scores
    assert perfect["ccc"].value == pytest.approx(1)


def test_a_manifest_gives_affect_by_frame(tmp_path):
    table, file = tmp_path / "manifest.csv", tmp_path / "a.txt"
    table.write_text("clip,split,affect\na,train,a.txt\nb,val,\n")
    assert [(ref.affect, ref.where) for ref in manifest.read_table(table)] == [("a.txt", []), (None, [])]
    file.write_text("valence,arousal\n0.5,-1\n-5,-5\n")
    np.testing.assert_array_equal(manifest.frame_affect(file), np.array([[0.5, -1], [np.nan, np.nan]], np.float32))
    for wrong in ("2,0", "0", "x,0", "nan,0", "0,nan"):
        file.write_text(f"0,0\n{wrong}\n")
        with pytest.raises(DamagedClip, match="a.txt line 2 is not"):
            manifest.frame_affect(file)
    with pytest.raises(DamagedClip, match="no valence and arousal by frame in b.txt"):
        manifest.frame_affect(tmp_path / "b.txt")
    table.write_text("clip,split,valence,arousal,affect\na,train,0,0,a.txt\n")
    with pytest.raises(UserError, match="line 2: give valence and arousal, or affect"):
        manifest.read_table(table)
    table.write_text("clip,split\na,train\n")
    with pytest.raises(UserError, match="or affect"):
        manifest.read_table(table)
