"""From what a sentence model says of every frame to text, by several decoders side by side."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.config import Component, require
from jaxlip.data.sentences import CtcSpec, stack_tokens
from jaxlip.data.vocab import Vocabulary
from jaxlip.decode import automaton, ngram
from jaxlip.decode.beam import Hypothesis, beam_search
from jaxlip.decode.greedy import greedy
from jaxlip.decode.kenlm import KenLm
from jaxlip.decode.lm import LanguageModel, TokenLm, WordLm
from jaxlip.decode.rescore import rescore
from jaxlip.decode.scorers import Scorer, Sum
from jaxlip.decode.times import TimedWord, word_times
from jaxlip.losses.ctc import ctc_loss
from jaxlip.models.heads import SentenceLogits

CHUNK = 16
"""Clips that are searched together; bounds the memory of n-best rescoring."""
WORDS = 8
"""Sentences are padded to a multiple of this many words for rescoring, so that few shapes are compiled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding(Component):
    """How frames become text in evaluation; nothing here changes training."""

    width: int = 32
    """Prefixes kept in a beam search."""
    top_k: int = 16
    """Tokens, the likeliest of a frame, by which a prefix may be extended."""
    nbest: int = 16
    """Hypotheses that a search hands on to be ranked again."""
    words: float = 4.0
    """Weight of the word CTC when the n-best hypotheses are ranked again; 0 leaves their order alone. Chosen on the
    validation clips of GRID, where 2 to 8 do about as well."""
    ngram: int = 0
    """Order of a word n-gram that is fitted on the training transcripts; 0: none."""
    lm: str | None = None
    """Word language model to be used instead, a file for KenLM (.arpa or binary)."""
    lm_weight: float = 0.5
    """Weight of the language model's log-probability."""
    bonus: float = 0.0
    """Added for every word (nats), against a language model's liking for few of them."""

    def __post_init__(self):
        for field in ("width", "top_k", "nbest"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        for field in ("words", "ngram", "lm_weight"):
            require(getattr(self, field) >= 0, self, field, "0 or more")

    def language_model(self, transcripts: Sequence[str], words: Vocabulary) -> LanguageModel | None:
        """The model asked for; `transcripts` are those of the training split. Raises UserError."""
        if self.lm:
            return KenLm(self.lm, words.tokens)
        if self.ngram:
            return ngram.fit([text.split() for text in transcripts], self.ngram, words.tokens)
        return None


def decoders(spec: CtcSpec) -> tuple[str, ...]:
    """Names of `readers` for one transcript to be shown: the lexicon first where there is one, else the beam."""
    words = spec.vocabulary.unit == "words"
    return (*(() if words else ("lexicon",)), "beam", *(("grammar",) if spec.slots else ()), "greedy")


Reader = Callable[[SentenceLogits, np.ndarray], list[tuple[int, ...]]]
"""Token ids of a batch from its logits and frames [B, T]; none for a clip of which no legal text was found."""


def readers(spec: CtcSpec, decoding: Decoding, transcripts: Sequence[str], *, words: bool = True) -> dict[str, Reader]:
    """Decoders by name, from the plainest to the one that knows most.

    "greedy" takes the best path, "words" that of the word CTC (where the tokens are not words themselves); "beam"
    searches all texts, "lexicon" those made of known words, "grammar" those of the source's grammar (where it has one).
    A language model, where one is asked for, helps beam and lexicon. `words`: whether the model has a word CTC.
    """
    decoding = decoding if words else dataclasses.replace(decoding, words=0.0)
    by_name: dict[str, Reader] = {"greedy": lambda logits, frames_BT: greedy(np.asarray(logits.tokens_BTK), frames_BT)}
    if words and spec.vocabulary.unit != "words":
        by_name["words"] = lambda logits, frames_BT: _read_words(spec, logits, frames_BT)
    for name, scorer in searches(spec, decoding, transcripts).items():
        by_name[name] = functools.partial(_best, spec, decoding, scorer)
    return by_name


def searches(spec: CtcSpec, decoding: Decoding, transcripts: Sequence[str]) -> dict[str, Scorer | None]:
    """What each of the searching `readers` adds to the probability of the frames; None for nothing."""
    model = decoding.language_model(transcripts, spec.words)
    fuse = TokenLm if spec.vocabulary.unit == "words" else WordLm
    fused: list[Scorer] = (
        [fuse(model, spec.vocabulary, weight=decoding.lm_weight, bonus=decoding.bonus)] if model else []
    )
    scorers: dict[str, list[Scorer]] = {"beam": fused}
    if spec.vocabulary.unit != "words":
        scorers["lexicon"] = [automaton.lexicon(spec.words.tokens, spec.vocabulary), *fused]
    if spec.slots:
        scorers["grammar"] = [automaton.slots(spec.slots, spec.vocabulary)]
    return {name: Sum(parts) if parts else None for name, parts in scorers.items()}


def _read_words(spec: CtcSpec, logits: SentenceLogits, frames_BT: np.ndarray) -> list[tuple[int, ...]]:
    read = greedy(np.asarray(logits.words_BTK), frames_BT)
    return [spec.vocabulary.encode(spec.words.decode(ids)) for ids in read]


def _best(
    spec: CtcSpec, decoding: Decoding, scorer: Scorer | None, logits: SentenceLogits, frames_BT: np.ndarray
) -> list[tuple[int, ...]]:
    nbest = search(decoding, scorer, logits, frames_BT)
    if decoding.words and spec.vocabulary.unit != "words":
        nbest = rank_by_words(spec, decoding.words, nbest, np.asarray(logits.words_BTK), frames_BT)
    return [hypotheses[0].tokens if hypotheses else () for hypotheses in nbest]


def search(
    decoding: Decoding, scorer: Scorer | None, logits: SentenceLogits, frames_BT: np.ndarray
) -> list[list[Hypothesis]]:
    """The n-best texts of each clip, best first."""
    log_p_BTK = np.asarray(jax.nn.log_softmax(jnp.asarray(logits.tokens_BTK, jnp.float32), axis=-1))
    options = {"width": decoding.width, "top_k": decoding.top_k, "nbest": decoding.nbest}
    return beam_search(log_p_BTK, frames_BT, scorer=scorer, **options)


def rank_by_words(
    spec: CtcSpec, weight: float, nbest: list[list[Hypothesis]], words_BTK: np.ndarray, frames_BT: np.ndarray
) -> list[list[Hypothesis]]:
    """The n-best lists in a new order, the log-probability of the word CTC added with its weight.

    A text with an unknown word comes after all others of its clip, in its old order.
    """
    known = set(spec.words.tokens)
    texts = [[spec.vocabulary.decode(hypothesis.tokens) for hypothesis in hypotheses] for hypotheses in nbest]
    legal = [(b, n) for b, row in enumerate(texts) for n, text in enumerate(row) if known.issuperset(text.split())]
    extra = [np.full(len(row), -np.inf) for row in texts]
    if legal:
        loss_N = sequence_losses(words_BTK, frames_BT, [(b, spec.words.encode(texts[b][n])) for b, n in legal])
        for (b, n), loss in zip(legal, loss_N, strict=True):
            extra[b][n] = -loss
    return rescore(nbest, extra, weight=weight)


_ctc_loss = jax.jit(ctc_loss)


def sequence_losses(
    logits_BTK: np.ndarray, frames_BT: np.ndarray, sentences: list[tuple[int, tuple[int, ...]]]
) -> np.ndarray:
    """CTC loss of every (clip, ids); in blocks of one shape, however many there are."""
    longest = max(len(ids) for _, ids in sentences)
    losses = []
    for start in range(0, len(sentences), len(logits_BTK)):
        block = sentences[start : start + len(logits_BTK)]
        padded = block + [(0, ())] * (len(logits_BTK) - len(block))
        tokens = stack_tokens([ids for _, ids in padded], width=-(-max(longest, 1) // WORDS) * WORDS)
        rows_B = np.array([clip for clip, _ in padded])
        loss_B = _ctc_loss(logits_BTK[rows_B], frames_BT[rows_B], tokens.labels_BN, tokens.tokens_BN)
        losses.append(np.asarray(loss_B)[: len(block)])
    return np.concatenate(losses)


def transcribe(reader: Reader, outputs: list[SentenceLogits], frames: list[np.ndarray]) -> list[tuple[int, ...]]:
    """Token ids of a split, bucket by bucket, a few clips at a time."""
    read = []
    for logits, frames_BT in zip(outputs, frames, strict=True):
        for start in range(0, len(frames_BT), CHUNK):
            rows = slice(start, start + CHUNK)
            part = jax.tree.map(lambda array, rows=rows: array[rows], logits)
            read += reader(part, frames_BT[rows])
    return read


def timings(
    read: list[tuple[int, ...]],
    outputs: list[SentenceLogits],
    frames: list[np.ndarray],
    vocabulary: Vocabulary,
    *,
    stride: int = 1,
) -> list[list[TimedWord]]:
    """When each word of a transcript was said, in frames, by forced alignment; rows as `transcribe` gives them.

    `stride` is how many frames a step of the logits stands for.
    """
    timed, start = [], 0
    for logits, frames_BT in zip(outputs, frames, strict=True):
        part = read[start : start + len(frames_BT)]
        timed += word_times(np.asarray(logits.tokens_BTK), frames_BT, part, vocabulary, fps=1 / stride)
        start += len(frames_BT)
    return timed
