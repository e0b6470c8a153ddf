"""Sentences: one clip -> what is said in it, by connectionist temporal classification."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxlip.config import require
from jaxlip.data.batches import Corpus, FaceBatch
from jaxlip.data.clips import SpokenWord
from jaxlip.data.face import Example, FaceClip, FaceData
from jaxlip.data.pronunciations import Pronunciations, pronounced, read_pronunciations
from jaxlip.data.sentences import SentenceSpec, load_sentences, sentence_shapes
from jaxlip.data.stretches import put_together, stretches
from jaxlip.data.vocab import Vocabulary
from jaxlip.errors import UserError
from jaxlip.face.augment import Augment, augment, check_flip
from jaxlip.models.members import by_voice
from jaxlip.tasks.answer import Answer
from jaxlip.tasks.ctc import Ctc, Voices
from jaxlip.tasks.splice import spliced
from jaxlip.tasks.transcribe import decoders, timings

UNITS = ("characters", "words", "sounds", "pieces")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sentence(Ctc):
    """Sentences from lips."""

    unit: str = "characters"
    """What is read: characters, words, pieces of words, or the sounds of a pronunciation: letters that are spelled
    (b, bee) share theirs with words, and lips show sounds, not spelling."""
    pronunciations: str | None = None
    """Dictionary of the unit sounds, a line `word sound sound ...` a word, as CMUdict has it; None: the source's own
    (GRID and visemes have one)."""
    pieces: int = 60
    """Vocabulary size of unit pieces."""
    augment: Augment = Augment()
    """Random variation of training clips."""
    splice: float = 0.0
    """Probability that a word of a training clip becomes that of another clip in the same place, if both are spelled
    with as many tokens (of characters, with three or more); not where pieces are read."""

    def __post_init__(self):
        require(self.unit in UNITS, self, "unit", f"one of {', '.join(UNITS)}")
        require(
            self.pronunciations is None or self.unit == "sounds", self, "pronunciations", "None unless sounds are read"
        )
        require(0 <= self.splice <= 1, self, "splice", "in [0, 1]")
        require(not self.splice or self.unit != "pieces", self, "splice", "0 where pieces are read")
        super().__post_init__()

    def corpus(self, data: FaceData) -> Corpus:
        check_flip(self.augment, data.preset)
        return load_sentences(data, functools.partial(self._vocabulary, data))

    def shape_spec(self, data: FaceData) -> SentenceSpec:
        return sentence_shapes(data, functools.partial(self._vocabulary, data))

    def vary_once(self, batch: FaceBatch, spec: SentenceSpec, key: Array) -> FaceBatch:
        if self.splice:
            batch = spliced(batch, self.splice, jax.random.fold_in(key, 1), space=_between_words(spec.vocabulary))
        return augment(batch, self.augment, key, ids=spec.input.ids, preset=spec.topology.preset)

    @property
    def remedies(self) -> str:
        return "motion features (--data.features extended56), or the helpers --task.spans 0.5 and --task.word_ctc 0.3"

    @property
    def one_word(self) -> bool:
        return False

    def decoders(self, spec: SentenceSpec) -> tuple[str, ...]:
        return decoders(spec)

    def questions(self, clip: FaceClip, data: FaceData, spoken: SpokenWord | None) -> list[Example]:
        assert spoken is None, "a sentence has no one place"
        return stretches(clip, max(data.buckets))

    def answer(
        self,
        outputs: list[Voices],
        questions: list[Example],
        spec: SentenceSpec,
        *,
        decoder: str,
        said: list[str],
        fps: float,
    ) -> Answer:
        """The text by one of `readers`, its words timed by forced alignment (by the first member of an ensemble);
        `said` are the training transcripts."""
        clip = questions[0].clip
        members = by_voice(outputs)
        # In steps, so that clips of all lengths need few shapes compiled.
        length = members[0][0].tokens_BTK.shape[1]
        length = length if len(outputs) == 1 else -(-len(clip.frames_T) // length) * length
        whole = [
            jax.tree.map(
                lambda *parts: jnp.asarray(put_together(list(map(np.asarray, parts)), questions, length)), *member
            )
            for member in members
        ]
        frames_BT = np.zeros((1, length), bool)
        frames_BT[0, : len(clip.frames_T)] = clip.frames_T
        shares_M = np.full(len(whole), 1 / len(whole))
        read = self.read([[logits] for logits in whole], shares_M, [frames_BT], spec, said, decoder)[decoder]
        text = spec.vocabulary.decode(read[0])
        notes = ()
        if len(questions) > 1:
            notes = (f"longer than the {questions[0].length} frames of training: read in {len(questions)} pieces",)
        timed = timings(read, [whole[0]], [frames_BT], spec.vocabulary)[0]
        words = [dataclasses.replace(word, start=word.start / fps, end=word.end / fps) for word in timed]
        return Answer(text=text, words=tuple(words), notes=notes)

    def _vocabulary(self, data: FaceData, words: tuple[str, ...]) -> Vocabulary:
        if self.unit == "words":
            return Vocabulary.of_words(words)
        if self.unit == "pieces":
            return Vocabulary.of_pieces(words, self.pieces)
        if self.unit == "sounds":
            return Vocabulary.of_sounds(self._sounds_of(data, words))
        return Vocabulary.of_characters([" ".join(words)])

    def _sounds_of(self, data: FaceData, words: tuple[str, ...]) -> Pronunciations:
        if self.pronunciations:
            return pronounced(words, read_pronunciations(self.pronunciations), self.pronunciations)
        known = data.pronunciations()
        if not known:
            raise UserError(
                f"source {data.source} knows no pronunciations: task.pronunciations names a dictionary file, with a "
                "line `word sound sound ...` for every word."
            )
        return pronounced(words, known, f"source {data.source}")


def _between_words(vocabulary: Vocabulary) -> int | None:
    """The token between words; None where every word is one token."""
    if vocabulary.unit == "words":
        return None
    # Of sentences of one word none is between any.
    return vocabulary.tokens.index(" ") + 1 if " " in vocabulary.tokens else -1
