"""Sentence examples: whole clips with tokens, words and the word of each frame, in the bucket that fits."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.data.face import FaceData
from jaxlip.data.sentences import Tokens, load_sentences, stack_tokens
from jaxlip.data.sources import grid
from jaxlip.data.sources.visemes import Visemes
from jaxlip.data.vocab import Vocabulary
from jaxlip.face.augment import Augment, augment
from jaxlip.models.conv_ctc import ConvCtc
from jaxlip.tasks.sentence import Sentence


def characters(words: tuple[str, ...]) -> Vocabulary:
    return Vocabulary.of_characters([" ".join(words)])


def test_grid_sentences_follow_the_grammar(grid_root):
    corpus = load_sentences(FaceData(source="grid", root=str(grid_root), preset="lips40"), characters)
    (batch,), (names,) = corpus.splits["train"].buckets, corpus.splits["train"].names
    words, target = corpus.spec.words, batch.target
    assert corpus.spec.slots == grid.SLOTS and target.words.tokens_BN.all()
    assert target.words.labels_BN.shape == (len(names), 6)
    for row, name in enumerate(names):
        said = words.decode(target.words.labels_BN[row]).split()
        assert all(word in slot for word, (_, slot) in zip(said, grid.SLOTS, strict=True))
        # The clip's name spells the sentence: bin blue at f two now = bbaf2n.
        clip = name.rpartition("/")[2]
        assert clip[:4] == "".join(word[0] for word in said[:4]) and clip[5] == said[5][0]
        spelled = target.tokens.labels_BN[row][target.tokens.tokens_BN[row]]
        assert corpus.spec.vocabulary.decode(spelled) == " ".join(said)
        order = [number for number in dict.fromkeys(target.word_BT[row].tolist()) if number >= 0]
        assert order == sorted(order) and len(order) >= 5


def test_when_speech_begins_is_not_told_to_the_model(grid_root):
    corpus = load_sentences(FaceData(source="grid", root=str(grid_root), preset="lips40"), characters)
    for split in corpus.splits.values():
        for batch in split.buckets:
            np.testing.assert_array_equal(batch.speech_BT, batch.detected_BT & batch.frames_BT)


def test_sentences_of_several_lengths_go_to_several_buckets():
    visemes = Visemes(words=10, train=12, val=2, test=2, sentence=3)
    corpus = load_sentences(FaceData(preset="lips40", visemes=visemes, buckets=(40, 50, 60, 75)), characters)
    split = corpus.splits["train"]
    assert len(split) == 12 and len(split.buckets) > 1 and not corpus.spec.slots
    for batch in split.buckets:
        assert batch.target.words.labels_BN.shape == (len(batch.examples_B), 3)
        assert batch.frames_BT.shape[1] in (40, 50, 60, 75)
        assert batch.target.word_BT.shape == batch.frames_BT.shape


def test_tokens_are_padded_on_the_right():
    tokens = stack_tokens([(3, 1), (2,), ()])
    assert isinstance(tokens, Tokens)
    np.testing.assert_array_equal(tokens.labels_BN, [[3, 1], [2, 0], [0, 0]])
    np.testing.assert_array_equal(tokens.tokens_BN, [[True, True], [True, False], [False, False]])


def test_targets_that_do_not_fit_are_counted_and_named(monkeypatch):
    # Forty times the letters: no clip has the frames for that.
    task = Sentence(model=ConvCtc())
    monkeypatch.setattr(Vocabulary, "encode", lambda self, text, encode=Vocabulary.encode: encode(self, text) * 40)
    corpus = task.corpus(FaceData(preset="lips40", visemes=Visemes(words=10, train=12, val=2, test=0)))
    assert corpus.counts["infeasible"] == {"train": 12, "val": 2}
    (note,) = [note for note in corpus.notes if "12 of 12 train sentences" in note]
    assert corpus.splits["train"].names[0][0] in note


def test_spoken_words_move_with_time_when_it_is_warped():
    data = FaceData(preset="lips40", visemes=Visemes(words=10, train=8, val=2, test=0, dropped=0.0))
    corpus = load_sentences(data, characters)
    batch = jax.tree.map(jnp.asarray, corpus.splits["train"].buckets[0])
    # The frame's number stands in every coordinate: afterwards it tells where a frame was taken from.
    frame_T = jnp.arange(batch.frames_BT.shape[1], dtype=jnp.float32)
    marked = jnp.broadcast_to(frame_T[None, :, None, None], batch.landmarks_BTVC.shape)
    batch = type(batch)(**{**vars(batch), "landmarks_BTVC": marked})
    moved = augment(batch, Augment(warp=0.3, move=3.0), jax.random.key(0), ids=corpus.spec.input.ids, preset="lips40")
    source_BT = np.asarray(moved.landmarks_BTVC[:, :, 0, 0])
    for row in range(len(source_BT)):
        inside = np.flatnonzero(np.asarray(moved.frames_BT[row]) & (np.abs(source_BT[row] % 1 - 0.5) > 0.1))
        want = np.asarray(batch.target.word_BT)[row, np.round(source_BT[row, inside]).astype(int)]
        np.testing.assert_array_equal(np.asarray(moved.target.word_BT)[row, inside], want)
