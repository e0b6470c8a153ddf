"""A run as a reader of videos: landmarks in, answer out, with the run's own preset, normalisation, features and rate."""

from typing import Any

import jax

from jaxlip.data.clips import Clip, DamagedClip, SpokenWord
from jaxlip.data.face import FaceData, assemble, prepare
from jaxlip.data.sources import SOURCES
from jaxlip.errors import UserError
from jaxlip.predict.recording import Recording, as_frames
from jaxlip.report.saved import Saved
from jaxlip.tasks.answer import Answer, Reads
from jaxlip.tasks.sentence import Sentence, references


class Reader:
    """Answers for clips, one at a time. Raises UserError for a run that does not read faces, or an unknown decoder."""

    def __init__(self, saved: Saved, decoder: str | None = None):
        data, task = saved.meta.experiment.data, saved.task
        if not isinstance(data, FaceData) or not isinstance(task, Reads):
            raise UserError(
                f"run {saved.folder.path} is of another kind ({type(task).__name__} on {type(data).__name__}): only runs "
                "that read words or sentences from faces can be asked about a video."
            )
        known = task.decoders(saved.meta.spec)
        if decoder is not None and decoder not in known:
            raise UserError(f"--decoder {decoder} is unknown to run {saved.folder.path}; it has {', '.join(known)}.")
        self.decoder = decoder or known[0]
        self.data, self.fps = data, SOURCES[data.source].fps
        self._task, self._spec, self._said = task, saved.meta.spec, _transcripts(saved)
        state, model = saved.state, saved.model
        self._variables = jax.device_put((state.best_params, state.model_state), jax.devices()[0])
        self._apply = jax.jit(lambda variables, batch: model.apply(*variables, batch, None)[0])

    @property
    def one_word(self) -> bool:
        """Whether a clip is asked for its one word, and may be told when it is spoken."""
        return self._task.one_word

    @property
    def window(self) -> int:
        """Frames that the model was trained to see at once."""
        return max(self.data.buckets) if isinstance(self._task, Sentence) else self.data.window

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

    def _ask(self, question: Any) -> Any:
        """The model's outputs for one question; one at a time, so that one shape is compiled however many there are."""
        buckets = sorted({*self.data.buckets, question.length})
        batch = assemble([question], tuple(buckets), lambda labels, frames: None).buckets[0]
        return jax.device_get(self._apply(self._variables, batch))


def _transcripts(saved: Saved) -> list[str]:
    """The training transcripts, which are read again only if the run decodes with an n-gram of them."""
    task = saved.task
    if not isinstance(task, Sentence) or task.decode.lm or not task.decode.ngram:
        return []
    return references(saved.corpus().splits["train"], saved.meta.spec)
