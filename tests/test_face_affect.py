"""Affect from faces: planted in the built-in mouths, read from a manifest, learnt by a tiny model's first steps."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxlip.data.clips import ClipRef
from jaxlip.data.face import FaceData, Rejections, face_clips
from jaxlip.data.face_affect import affect_examples
from jaxlip.data.sources import manifest, visemes
from jaxlip.data.sources.visemes import Visemes
from jaxlip.errors import UserError
from jaxlip.models.graph_affect import GraphAffect
from jaxlip.tasks.face_affect import FaceAffect

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
    assert list(affect_examples(dataclasses.replace(clip, affect=None), 75, rejections)) == []
    assert list(affect_examples(clip, 10, rejections)) == []
    assert set(rejections.counts()) == {
        "no valence and arousal",
        "longer than the 10 frames of the longest of data.buckets",
    }
    (example,) = affect_examples(clip, 75, rejections)
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
    weights, state = model.init(jax.random.key(0))

    def value(weights):
        return task.metrics(model.apply(weights, state, batch, None)[0], batch, train=False)["loss"].value

    loss, slopes = jax.jit(jax.value_and_grad(value))(weights)
    assert np.isfinite(loss) and all(np.isfinite(slope).all() for slope in slopes.values())
    split, train = corpus.splits["test"], corpus.splits["train"]
    scores = task.score(task.perfect(split, corpus.spec), split, train, corpus.spec).scores
    assert scores["ccc"].value == pytest.approx(1) and scores["valence/rmse"].value == pytest.approx(0, abs=1e-6)
