"""Spliced sentences against a plain rebuilding of each one, word by word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlip.data.face import FaceData
from jaxlip.data.sentences import load_sentences
from jaxlip.data.sources.visemes import Visemes
from jaxlip.data.vocab import Vocabulary
from jaxlip.tasks.splice import splice


@pytest.fixture(scope="module", params=["characters", "words"])
def corpus(request):
    def vocabulary(words):
        return Vocabulary.of_words(words) if request.param == "words" else Vocabulary.of_characters([" ".join(words)])

    visemes = Visemes(words=20, train=32, val=2, test=0, sentence=4)
    return load_sentences(FaceData(preset="lips40", visemes=visemes, buckets=(110,)), vocabulary)


def texts(spec, target):
    words, tokens = (
        [v.decode(labels_N[real_N]) for labels_N, real_N in zip(part.labels_BN, part.tokens_BN, strict=True)]
        for v, part in ((spec.words, target.words), (spec.vocabulary, target.tokens))
    )
    assert words == tokens
    return [text.split() for text in words]


def test_head_and_tail_are_joined_in_text_and_frames(corpus):
    batch = jax.tree.map(jnp.asarray, corpus.splits["train"].buckets[0])
    new = jax.device_get(jax.jit(splice, static_argnums=1)(batch, 1.0, jax.random.key(3)))
    before, after = texts(corpus.spec, jax.device_get(batch.target)), texts(corpus.spec, new.target)
    old = jax.device_get(batch)
    spliced, places = 0, set()
    for b, words in enumerate(after):
        # The neighbour is the row before.
        cuts = [n for n in (1, 2, 3) if words == before[b][:n] + before[b - 1][n:]]
        assert cuts or words == before[b]
        if words == before[b] or len(cuts) != 1:
            continue
        spliced, n = spliced + 1, cuts[0]
        places.add(n)
        here = int(np.flatnonzero(old.target.word_BT[b] == n)[0])
        there = int(np.flatnonzero(old.target.word_BT[b - 1] == n)[0])
        tail = min(len(old.frames_BT[b]) - here, len(old.frames_BT[b]) - there)
        np.testing.assert_array_equal(new.landmarks_BTVC[b, :here], old.landmarks_BTVC[b, :here])
        for name in ("frames_BT", "detected_BT", "speech_BT"):
            np.testing.assert_array_equal(getattr(new, name)[b, :here], getattr(old, name)[b, :here])
            got = getattr(new, name)[b, here : here + tail]
            np.testing.assert_array_equal(got, getattr(old, name)[b - 1, there : there + tail])
        words_T = new.target.word_BT[b]
        np.testing.assert_array_equal(words_T[here : here + tail], old.target.word_BT[b - 1, there : there + tail])
        faces = [old.landmarks_BTVC[r][old.frames_BT[r]].mean(axis=0) for r in (b, b - 1)]
        want = old.landmarks_BTVC[b - 1, there : there + tail] - faces[1] + faces[0]
        real_T = new.frames_BT[b, here : here + tail]
        np.testing.assert_allclose(new.landmarks_BTVC[b, here : here + tail][real_T], want[real_T], atol=1e-5)
        assert list(dict.fromkeys(new.target.word_BT[b][new.target.word_BT[b] >= 0].tolist())) == [0, 1, 2, 3]
    assert spliced >= 16 and places == {1, 2, 3}


def test_none_are_spliced_at_probability_zero_or_with_an_empty_row(corpus):
    batch = jax.tree.map(lambda array: jnp.asarray(array[:4]), corpus.splits["train"].buckets[0])
    same = splice(batch, 0.0, jax.random.key(0))
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(batch), strict=True):
        np.testing.assert_array_equal(a, b)
    alone = type(batch)(**{**vars(batch), "examples_B": jnp.array([True, False, True, False])})
    for seed in range(4):
        kept = splice(alone, 1.0, jax.random.key(seed))
        np.testing.assert_array_equal(kept.landmarks_BTVC, alone.landmarks_BTVC)
