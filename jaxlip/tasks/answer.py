"""What a run says of a video that nobody has labelled."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

from jaxlip.data.clips import SpokenWord
from jaxlip.data.face import Example, FaceClip, FaceData
from jaxlip.decode.times import TimedWord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """`words` in their order, with times in seconds from the first frame and confidences.

    `likeliest` are the words of the whole vocabulary that come first, with probabilities, where one word was asked for;
    `notes` what a person should know before trusting it.
    """

    text: str
    words: tuple[TimedWord, ...]
    likeliest: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"text": self.text, "words": [dataclasses.asdict(word) for word in self.words]}
        if self.likeliest:
            answer["likeliest"] = [{"word": word, "probability": p} for word, p in self.likeliest]
        return answer


@runtime_checkable
class Reads(Protocol):
    """A task whose runs read face videos without labels, one by one: questions to the model, and what its outputs say.

    `decoders(spec)` are the names of the ways to read, the default first. `questions` are pieces of the clip for the
    model; `spoken`, in frames, says where the word is, if it is one word that is read (`one_word`) and anybody knows.
    `answer` takes the outputs, one a question.
    """

    @property
    def one_word(self) -> bool: ...

    def decoders(self, spec: Any) -> tuple[str, ...]: ...

    def questions(self, clip: FaceClip, data: FaceData, spoken: SpokenWord | None) -> list[Example]: ...

    def answer(
        self, outputs: list[Any], questions: list[Example], spec: Any, *, decoder: str, said: list[str], fps: float
    ) -> Answer: ...
