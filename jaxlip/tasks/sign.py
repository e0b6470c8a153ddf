"""Signing: one clip -> the glosses or letters that are signed in it, by connectionist temporal classification."""

import dataclasses

from jaxtyping import Array

from jaxlip.config import require
from jaxlip.data.batches import Corpus, FaceBatch, Split
from jaxlip.data.signs import AS_WRITTEN, SignData, SignSpec, load_signs, sign_shapes
from jaxlip.data.vocab import Vocabulary
from jaxlip.holistic.augment import SignAugment, augment
from jaxlip.metrics.scores import Scores
from jaxlip.tasks.ctc import Ctc, Voices

UNITS = ("words", "characters")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sign(Ctc):
    """Sentences of signs."""

    unit: str = "words"
    """What is read: words (glosses), or characters (fingerspelling)."""
    augment: SignAugment = SignAugment()
    """Random variation of training clips."""

    def __post_init__(self):
        require(self.unit in UNITS, self, "unit", f"one of {', '.join(UNITS)}")
        super().__post_init__()

    def corpus(self, data: SignData) -> Corpus:
        return load_signs(data, self._vocabulary, stride=getattr(self.model, "stride", 1))

    def shape_spec(self, data: SignData) -> SignSpec:
        return sign_shapes(data, self._vocabulary)

    def vary_once(self, batch: FaceBatch, spec: SignSpec, key: Array) -> FaceBatch:
        return augment(batch, self.augment, key, ids=spec.input.ids)

    def score(self, outputs: list[Voices], split: Split, train: Split, spec: SignSpec) -> Scores:
        """As of any CTC; where tokens were left out as not lexical, every score says so in its name."""
        scores = super().score(outputs, split, train, spec)
        if not spec.lexical_only:
            return scores
        return dataclasses.replace(scores, scores={f"{name}_lexical": score for name, score in scores.scores.items()})

    def _vocabulary(self, words: tuple[str, ...]) -> Vocabulary:
        if self.unit == "words":
            return Vocabulary.of_words(words, AS_WRITTEN, ordered=True)
        return Vocabulary.of_characters([" ".join(words)])
