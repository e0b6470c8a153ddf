"""Sentences put together from words of several clips: what is shown is what is said, in words and in tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import changed, get_sentences

from jaxlip.data.batches import FaceBatch
from jaxlip.data.sentences import SentenceTarget, stack_tokens
from jaxlip.data.vocab import Vocabulary
from jaxlip.tasks.splice import spliced

WORDS = ("abc", "cde", "efg", "ghij", "jklm", "m")
LETTERS = Vocabulary.of_characters([" ".join(WORDS)])
NAMES = Vocabulary.of_words(WORDS)
SPACE = LETTERS.tokens.index(" ") + 1
FRAMES, CLIPS = 60, 12


def clips(seed: int, unit: Vocabulary) -> FaceBatch:
    """Clips of two to four words of 8 to 12 frames. In the first half of a word's frames the one landmark is at the
    word's number, in the second at minus that, so that the mean face of every clip is zero."""
    rng = np.random.default_rng(seed)
    landmarks_BTVC = np.zeros((CLIPS, FRAMES, 1, 3), np.float32)
    word_BT = np.full((CLIPS, FRAMES), -1, np.int32)
    texts = []
    for b in range(CLIPS):
        t, said = int(rng.integers(0, 5)), []
        for place in range(rng.integers(2, 5)):
            half, word = int(rng.integers(4, 7)), int(rng.integers(len(WORDS)))
            word_BT[b, t : t + 2 * half] = place
            landmarks_BTVC[b, t : t + half] = word + 1
            landmarks_BTVC[b, t + half : t + 2 * half] = -word - 1
            t += 2 * half + int(rng.integers(0, 3))
            said.append(WORDS[word])
        texts.append(" ".join(said))
    real_BT = np.ones((CLIPS, FRAMES), bool)
    target = SentenceTarget(
        tokens=stack_tokens([unit.encode(text) for text in texts], width=20),
        words=stack_tokens([NAMES.encode(text) for text in texts], width=5),
        word_BT=word_BT,
    )
    real_B = np.arange(CLIPS) < CLIPS - 2
    masks = {"frames_BT": real_BT, "detected_BT": real_BT, "speech_BT": real_BT, "examples_B": real_B}
    return jax.tree.map(jnp.asarray, FaceBatch(landmarks_BTVC=landmarks_BTVC, target=target, **masks))


def texts(batch: FaceBatch, vocabulary: Vocabulary, field: str) -> list[str]:
    tokens = jax.device_get(getattr(batch.target, field))
    return [vocabulary.decode(row[real]) for row, real in zip(tokens.labels_BN, tokens.tokens_BN, strict=True)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_tokens_words_and_lips_say_the_same(seed, letters):
    unit, space = (LETTERS, SPACE) if letters else (NAMES, None)
    before = clips(seed, unit)
    after = jax.jit(spliced, static_argnums=1, static_argnames="space")(before, 0.5, jax.random.key(seed), space=space)
    said, was = texts(after, NAMES, "words"), texts(before, NAMES, "words")
    assert texts(after, unit, "tokens") == said
    np.testing.assert_array_equal(after.target.word_BT, before.target.word_BT)
    lips_BT, word_BT = np.asarray(after.landmarks_BTVC)[:, :, 0, 0], np.asarray(after.target.word_BT)
    for b, (text, old) in enumerate(zip(said, was, strict=True)):
        for place, (word, other) in enumerate(zip(text.split(), old.split(), strict=True)):
            frames = np.flatnonzero(word_BT[b] == place)
            # Past the fade, and before the word's middle even where the other clip's frames are stretched.
            assert lips_BT[b, frames[2]] == pytest.approx(WORDS.index(word) + 1)
            assert not letters or len(word) == len(other)
            assert not letters or len(other) > 1 or word == other
        np.testing.assert_array_equal(lips_BT[b, word_BT[b] < 0], 0)
    assert was[-2:] == said[-2:], "padding is left alone"


def test_no_share_changes_nothing_and_all_of_it_nearly_everything():
    before = clips(0, LETTERS)
    jax.tree.map(np.testing.assert_array_equal, spliced(before, 0.0, jax.random.key(0), space=SPACE), before)
    before = clips(0, NAMES)
    after = spliced(before, 1.0, jax.random.key(0), space=None)
    changes = [a != b for a, b in zip(texts(after, NAMES, "words"), texts(before, NAMES, "words"), strict=True)]
    assert np.mean(changes[:-2]) > 0.6


def test_a_task_splices_what_it_trains_on():
    experiment = get_sentences()
    task = dataclasses.replace(experiment.task, splice=0.5)
    corpus = task.corpus(experiment.data)
    batch = jax.tree.map(jnp.asarray, corpus.splits["train"].buckets[0])
    varied = task.vary(batch, corpus.spec, jax.random.key(0))
    assert np.any(varied.target.words.labels_BN != batch.target.words.labels_BN)
    written = texts(varied, corpus.spec.vocabulary, "tokens")
    assert written == texts(varied, corpus.spec.words, "words")
    with pytest.raises(ValueError, match=r"Sentence\.splice=0\.5"):
        changed(experiment, task={"splice": 0.5, "unit": "pieces"})
