"""Sentence examples: whole clips, their words as padded ids, in the bucket that fits."""

import numpy as np

from jaxlip.data.face import FaceData
from jaxlip.data.sentences import load_sentences, stack_tokens
from jaxlip.data.sources import grid
from jaxlip.data.sources.visemes import Visemes


def test_grid_sentences_follow_the_grammar(grid_root):
    corpus = load_sentences(FaceData(source="grid", root=str(grid_root), preset="lips40"))
    (batch,), (names,) = corpus.splits["train"].buckets, corpus.splits["train"].names
    slots = (grid.COMMANDS, grid.COLOURS, grid.PREPOSITIONS, grid.LETTERS, grid.DIGITS, grid.ADVERBS)
    assert batch.target.labels_BN.shape == (len(names), 6) and batch.target.tokens_BN.all()
    for labels_N, speech_T, name in zip(batch.target.labels_BN, batch.speech_BT, names, strict=True):
        said = [corpus.spec.classes[k] for k in labels_N]
        assert all(word in slot for word, slot in zip(said, slots, strict=True))
        # The clip's name spells the sentence: bin blue at f two now = bbaf2n.
        clip = name.rpartition("/")[2]
        assert clip[:4] == "".join(word[0] for word in said[:4]) and clip[5] == said[5][0]
        assert 20 < speech_T.sum() < 75


def test_sentences_of_several_lengths_go_to_several_buckets():
    visemes = Visemes(words=10, train=12, val=2, test=2, sentence=3)
    corpus = load_sentences(FaceData(preset="lips40", visemes=visemes, buckets=(40, 50, 60, 75)))
    split = corpus.splits["train"]
    assert len(split) == 12 and len(split.buckets) > 1
    for batch in split.buckets:
        assert batch.target.labels_BN.shape == (len(batch.examples_B), 3)
        assert batch.frames_BT.shape[1] in (40, 50, 60, 75)


def test_tokens_are_padded_on_the_right():
    tokens = stack_tokens([(3, 1), (2,), ()])
    np.testing.assert_array_equal(tokens.labels_BN, [[3, 1], [2, 0], [0, 0]])
    np.testing.assert_array_equal(tokens.tokens_BN, [[True, True], [True, False], [False, False]])
