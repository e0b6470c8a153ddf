"""A run as a reader of videos: landmarks in, answer out; preset, normalisation, features and rate are the run's own."""

import dataclasses
from typing import Any

import jax

from jaxlip.data.assemble import assemble
from jaxlip.data.clips import Clip, DamagedClip, SpokenWord
from jaxlip.data.face import FaceData, prepare
from jaxlip.data.sentences import SentenceSpec
from jaxlip.data.sources import SOURCES, visemes
from jaxlip.errors import UserError
from jaxlip.predict.recording import Recording, as_frames
from jaxlip.report.saved import Saved
from jaxlip.tasks.answer import Answer, Reads
from jaxlip.tasks.ctc import references
from jaxlip.tasks.sentence import Sentence


class Reader:
    """Answers for clips, one at a time. Raises UserError for a run that does not read faces, or an unknown decoder.

    With `one_shape`, clips are padded to the longest that the model was trained on, so that it is compiled once.
    """

    def __init__(self, saved: Saved, decoder: str | None = None, *, one_shape: bool = False):
        data, task = saved.meta.experiment.data, saved.task
        if not isinstance(data, FaceData) or not isinstance(task, Reads):
            raise UserError(
                f"run {saved.folder.path} is of another kind ({type(task).__name__} on {type(data).__name__}): only "
                "runs that read words or sentences from faces can be asked about a video."
            )
        known = task.decoders(saved.meta.spec)
        if decoder is not None and decoder not in known:
            raise UserError(f"--decoder {decoder} is unknown to run {saved.folder.path}; it has {', '.join(known)}.")
        self.decoder = decoder or known[0]
        self.data, self.fps = data, SOURCES[data.source].fps
        self._buckets = (max(data.buckets),) if one_shape and not task.one_word else data.buckets
        self._task, self._spec, self._said = task, saved.meta.spec, _transcripts(saved)
        state, model = saved.state, saved.model
        self._variables = jax.device_put((state.best_params, state.model_state), jax.devices()[0])
        self._apply = jax.jit(lambda params, state, batch: model.apply(params, state, batch, None)[0])

    @property
    def one_word(self) -> bool:
        """Whether a clip is asked for its one word, and may be told when it is spoken."""
        return self._task.one_word

    @property
    def window(self) -> int:
        """Frames that the model was trained to see at once."""
        return self.data.window if self.one_word else max(self.data.buckets)

    def read_recording(self, recording: Recording, span: tuple[float, float] | None = None) -> Answer:
        """What is said in a recording; `span`, in seconds, is where the word is. Raises DamagedClip."""
        return self.read(recording.at(self.fps), None if span is None else as_frames(span, self.fps))

    def read(self, clip: Clip, spoken: SpokenWord | None = None) -> Answer:
        """What is said in a clip at the run's rate. Raises DamagedClip if it has too few frames with a face."""
        prepared = prepare(clip, self.data)
        if isinstance(prepared, str):
            raise DamagedClip(prepared)
        questions = self._task.questions(prepared, self.data, spoken)
        outputs = [self._ask(question) for question in questions]
        return self._task.answer(outputs, questions, self._spec, decoder=self.decoder, said=self._said, fps=self.fps)

    def warm_up(self) -> None:
        """Reads pieces of a built-in clip, so that all that texts of few and of many words need is compiled."""
        config = visemes.Visemes(train=1, val=0, test=0, sentence=6, dropped=0.0)
        clip = visemes.load(config, next(visemes.find(config)))
        for frames in (self.window // 4, self.window):
            landmarks_TVC, detected_T = clip.landmarks[:frames], clip.detected[:frames]
            self.read(dataclasses.replace(clip, landmarks=landmarks_TVC, detected=detected_T, words=()))

    def _ask(self, question: Any) -> Any:
        """The model's outputs for one question; one at a time, so that one shape is compiled however many there are."""
        batch = assemble([question], self._buckets, lambda labels, frames: None).buckets[0]
        return jax.device_get(self._apply(*self._variables, batch))


def _transcripts(saved: Saved) -> list[str]:
    """The training transcripts, which are read again only if the run decodes with an n-gram of them."""
    task, spec = saved.task, saved.meta.spec
    if not isinstance(task, Sentence) or task.decode.lm or not task.decode.ngram:
        return []
    assert isinstance(spec, SentenceSpec)
    return references(saved.corpus().splits["train"], spec)
