"""The built-in corpus: words spoken by a parametric face, so that every pipeline runs without a download.

Speakers, head motion, coarticulation, tempo, sensor noise and lost frames vary as in recordings; the splits share no
speaker. Each word stands among unlabelled speech and pauses. It is a benchmark for code, not for lip reading: scores
say nothing about real faces.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from jaxlip.config import Component, require
from jaxlip.data.clips import Clip, ClipRef, SpokenWord
from jaxlip.face import visemes
from jaxlip.face.mean_face import mean_face
from jaxlip.face.visemes import LEXICON

FPS = 25.0
SIZE = (640, 480)
CLIP_FRAMES = (29, 45)
WORD_FRAMES = (6.0, 16.0)
MARGIN = 6
"""Frames of context before and after a sentence at the least."""

SPEAKERS = {"train": 24, "val": 6, "test": 10}

# How far speakers and single utterances stray, as standard deviations. Chosen so that the mean shape of a word tells
# little (nearest centroid: one in ten of 100 words) and its course much (three in five), on speakers never seen.
SPEAKER_SIZE_C = (0.01, 0.01, 0.01)
SPEAKER_MOUTH_A = (0.02, 0.03)
"""Relative width of the mouth and thickness of the lips."""
SPEAKER_TARGETS = 0.05
"""In units of the articulation parameters, as are `SPEAKER_REST` and `TOKEN_TARGETS`."""
SPEAKER_REST = 0.02
SPEAKER_GAIN = 0.1
"""Of the logarithm of how far the mouth moves."""
TOKEN_TARGETS = 0.08
TOKEN_FRAMES = 0.2
"""Of the logarithm of a viseme's duration."""
SMILE_P = np.array([0.0, 0.0, 0.6, 0.0, 0.4, 0.0])
"""What valence adds to the articulation: corners apart, upper lip up."""
HEAD_DEGREES_A = (1.5, 1.5, 2.0)
"""Yaw, pitch and roll of a clip; within the clip the head moves by half of that."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Visemes(Component):
    """A corpus of viseme words, made on the fly from the seed."""

    words: int = 100
    """Vocabulary size: the first words of the lexicon."""
    train: int = 512
    """Clips of the training split, over all words and speakers."""
    val: int = 128
    """Clips of the validation split."""
    test: int = 400
    """Clips of the test split."""
    seed: int = 0
    """Seeds everything; a clip depends on it, the split and its own number alone."""
    noise: float = 0.004
    """Standard deviation of a landmark's jitter in each frame, in inter-ocular distances (twice that in depth)."""
    dropped: float = 0.02
    """Part of the frames whose face is lost, in bursts of one to three."""
    sentence: int = 1
    """Labelled words a clip, one after the other."""
    affect: float = 0.0
    """How far a clip's valence moves the corners of the mouth, and its arousal how widely it speaks; 0: no affect."""
    affect_moves: bool = False
    """Valence and arousal wander within a clip and are known by frame; else they are those of the whole clip."""

    def __post_init__(self):
        require(2 <= self.words <= len(LEXICON), self, "words", f"from 2 to {len(LEXICON)}, the size of the lexicon")
        for field in ("train", "val", "test"):
            require(getattr(self, field) >= 0, self, field, "0 or more")
        require(self.seed >= 0, self, "seed", "0 or more")
        require(0 <= self.noise <= 0.1, self, "noise", "in [0, 0.1] inter-ocular distances")
        require(0 <= self.dropped <= 0.5, self, "dropped", "in [0, 0.5]")
        require(self.sentence >= 1, self, "sentence", "1 or more")
        require(0 <= self.affect <= 1, self, "affect", "in [0, 1]")
        require(self.affect > 0 or not self.affect_moves, self, "affect", "more than 0 for affect_moves")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Speaker:
    """One face, and how it talks."""

    face_VC: np.ndarray
    targets_SP: np.ndarray
    """The speaker's own viseme targets, in the order of `visemes.NAMES`."""
    rest_P: np.ndarray
    """Where the mouth rests, relative to the mean face."""
    tempo: float
    """Durations relative to the usual."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Speech:
    """Visemes in time, as indices into `visemes.NAMES`, with times in frames."""

    viseme_S: np.ndarray
    centre_S: np.ndarray
    frames_S: np.ndarray
    words: tuple[SpokenWord, ...]
    clip_frames: int


def vocabulary(config: Visemes) -> tuple[str, ...]:
    """The words that clips are labelled with."""
    return tuple(LEXICON)[: config.words]


def find(config: Visemes) -> Iterator[ClipRef]:
    """Every clip, the training split first."""
    for split in SPEAKERS:
        labels = _labels(config, split, getattr(config, split) * config.sentence)
        kind = "word" if config.sentence == 1 else "sentence"
        for index in range(getattr(config, split)):
            said = labels[index * config.sentence : (index + 1) * config.sentence]
            speaker = _speaker_name(split, index % SPEAKERS[split])
            yield ClipRef(name=f"{speaker}/{kind}_{index:04d}", split=split, speaker=speaker, where=(index, said))


def load(config: Visemes, ref: ClipRef) -> Clip:
    """The clip, made from its seed."""
    index, said = ref.where
    return _clip(config, ref, index, _speaker(config, ref.split, index % SPEAKERS[ref.split]), said)


def _rng(config: Visemes, split: str, *what: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, list(SPEAKERS).index(split), *what])


def _labels(config: Visemes, split: str, count: int) -> list[str]:
    """Words to be said: the whole vocabulary in a new order, again and again, so that counts differ by one at most."""
    words = vocabulary(config)
    rounds = [_rng(config, split, 1, number).permutation(len(words)) for number in range(-(-count // len(words)))]
    return [words[i] for order in rounds for i in order][:count]


def _speaker_name(split: str, number: int) -> str:
    splits = list(SPEAKERS)
    return f"s{sum(SPEAKERS[other] for other in splits[: splits.index(split)]) + number + 1:02d}"


@functools.lru_cache(maxsize=sum(SPEAKERS.values()))
def _speaker(config: Visemes, split: str, number: int) -> _Speaker:
    rng = _rng(config, split, 0, number)
    size_C = rng.normal(1, SPEAKER_SIZE_C)
    mouth_A = rng.normal(0, SPEAKER_MOUTH_A)
    face_VC = mean_face() * size_C + np.tensordot(mouth_A, visemes.anatomy_AVC(), axes=1)
    gain_P = np.exp(rng.normal(0, SPEAKER_GAIN) + rng.normal(0, SPEAKER_GAIN / 2, len(visemes.PARAMETERS)))
    strayed_SP = visemes.TARGETS_SP + rng.normal(0, SPEAKER_TARGETS, visemes.TARGETS_SP.shape)
    return _Speaker(
        face_VC=face_VC.astype(np.float32),
        targets_SP=strayed_SP * gain_P,
        rest_P=rng.normal(0, SPEAKER_REST, len(visemes.PARAMETERS)),
        tempo=rng.uniform(0.85, 1.2),
    )


def _clip(config: Visemes, ref: ClipRef, index: int, speaker: _Speaker, said: list[str]) -> Clip:
    rng = _rng(config, ref.split, 2, index)
    speech = _speak(rng, said, speaker.tempo)
    affect, articulation_TP = None, _articulate(rng, speech, speaker)
    if config.affect:
        felt = _rng(config, ref.split, 3, index)
        valence, arousal = felt.uniform(-1, 1, 2)
        affect = (float(valence), float(arousal))
        if config.affect_moves:
            affect = _wandering(felt, len(articulation_TP))
            valence, arousal = affect.T[..., None]
        articulation_TP = articulation_TP * np.exp(config.affect * arousal) + config.affect * valence * SMILE_P
    face_TVC = speaker.face_VC + visemes.move(articulation_TP.astype(np.float32))
    jitter_C = np.array([1, 1, 2], np.float32) * np.float32(config.noise)
    face_TVC += rng.standard_normal(face_TVC.shape, np.float32) * jitter_C
    landmarks_TVC = _film(rng, face_TVC)
    detected_T = ~_lost(rng, len(landmarks_TVC), config.dropped)
    landmarks_TVC[~detected_T] = np.nan
    return Clip(
        name=ref.name,
        split=ref.split,
        speaker=ref.speaker,
        landmarks=landmarks_TVC,
        detected=detected_T,
        fps=FPS,
        size=SIZE,
        words=speech.words,
        affect=affect,
    )


def _durations(rng: np.random.Generator, viseme_S: np.ndarray, tempo: float) -> np.ndarray:
    return visemes.FRAMES_S[viseme_S] * tempo * rng.lognormal(0, TOKEN_FRAMES, len(viseme_S))


def _context(rng: np.random.Generator, frames: float, tempo: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Unlabelled speech that lasts `frames` at the least: runs of random visemes with pauses between."""
    viseme, lasting, total = [], [], 0.0
    while total < frames:
        run_S = np.zeros(1, int) if rng.random() < 0.4 else rng.integers(1, len(visemes.NAMES), rng.integers(2, 6))
        run_frames_S = _durations(rng, run_S, tempo)
        viseme.append(run_S)
        lasting.append(run_frames_S)
        total += run_frames_S.sum()
    return viseme, lasting


def _say(rng: np.random.Generator, word: str, tempo: float) -> tuple[np.ndarray, np.ndarray]:
    """A word's visemes and their durations, which fill 6 to 16 frames together."""
    viseme_S = np.array([visemes.NAMES.index(name) for name in LEXICON[word]])
    frames_S = _durations(rng, viseme_S, tempo * rng.lognormal(0, 0.12))
    return viseme_S, frames_S * np.clip(frames_S.sum(), *WORD_FRAMES) / frames_S.sum()


def _speak(rng: np.random.Generator, said: list[str], tempo: float) -> _Speech:
    """Lays words near the middle of a clip, with pauses now and then between them and context on both sides."""
    viseme, lasting, spans, offset = [], [], [], 0.0
    for word in said:
        if viseme and rng.random() < 0.3:
            viseme.append(np.zeros(1, int))
            lasting.append(_durations(rng, viseme[-1], tempo))
            offset += lasting[-1].sum()
        for run, values in zip((viseme, lasting), _say(rng, word, tempo), strict=True):
            run.append(values)
        spans.append((word, offset, offset + lasting[-1].sum()))
        offset = spans[-1][2]
    clip_frames = max(int(rng.integers(CLIP_FRAMES[0], CLIP_FRAMES[1] + 1)), int(np.ceil(offset)) + 2 * MARGIN)
    slack = clip_frames - offset
    start = float(np.clip(slack / 2 + rng.normal(0, 2), 2, slack - 2))
    # Context reaches beyond the clip's ends, so that speech is under way in its first frame.
    lead, lead_frames = _context(rng, start + 2, tempo)
    tail, tail_frames = _context(rng, slack - start + 2, tempo)
    frames_S = np.concatenate([*lead_frames, *lasting, *tail_frames])
    return _Speech(
        viseme_S=np.concatenate([*lead, *viseme, *tail]),
        centre_S=np.cumsum(frames_S) - frames_S / 2 + start - np.concatenate(lead_frames).sum(),
        frames_S=frames_S,
        words=tuple(SpokenWord(text=word, start=start + a, end=start + b) for word, a, b in spans),
        clip_frames=clip_frames,
    )


def _articulate(rng: np.random.Generator, speech: _Speech, speaker: _Speaker) -> np.ndarray:
    """Articulation [T, P] in frame centres; no viseme is reached twice in the same way."""
    targets_SP = speaker.targets_SP[speech.viseme_S]
    targets_SP = targets_SP + rng.normal(0, TOKEN_TARGETS, targets_SP.shape)
    dominance_S = visemes.DOMINANCE_S[speech.viseme_S]
    time_T = np.arange(speech.clip_frames) + 0.5
    return speaker.rest_P + visemes.blend(targets_SP, dominance_S, speech.centre_S, speech.frames_S, time_T)


def _drift(rng: np.random.Generator, frames: int, spread: float) -> np.ndarray:
    """A smooth curve [T] around 0: three slow sinusoids of 0.1 to 1 Hz, with a standard deviation of `spread`."""
    hertz_3, phase_3 = rng.uniform(0.1, 1.0, 3), rng.uniform(0, 2 * np.pi, 3)
    time_T = np.arange(frames)[:, None] / FPS
    return np.sin(2 * np.pi * hertz_3 * time_T + phase_3).sum(axis=1) * spread * np.sqrt(2 / 3)


def _wandering(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Valence and arousal f32 [T, 2] about levels of the clip's own."""
    curves = [rng.uniform(-0.6, 0.6) + _drift(rng, frames, 0.35) for _ in range(2)]
    return np.clip(np.stack(curves, axis=1), -1, 1).astype(np.float32)


def _film(rng: np.random.Generator, face_TVC: np.ndarray) -> np.ndarray:
    """Turns, moves and projects a face (orthographically): image-normalised landmarks f32 [T, V, C]."""
    frames, pivot_C = len(face_TVC), np.array([0.0, 0.4, 0.9], np.float32)
    spread_A = np.radians(HEAD_DEGREES_A)
    offset_A = rng.normal(0, spread_A)
    yaw_T, pitch_T, roll_T = (o + _drift(rng, frames, s / 2) for o, s in zip(offset_A, spread_A, strict=True))
    turned_TVC = (face_TVC - pivot_C) @ _rotation(yaw_T, pitch_T, roll_T).transpose(0, 2, 1)
    # The pivot lies below the eyes: 0.15 above the middle of the face's height, from -1 to 2.2.
    picture_C = np.array([SIZE[0], SIZE[1], SIZE[0]])
    pixels_T = rng.uniform(80, 105) * np.exp(_drift(rng, frames, 0.015))
    moved_TC = np.stack([_drift(rng, frames, 0.04), _drift(rng, frames, 0.04) - 0.2, np.zeros(frames)], axis=-1)
    middle_C = np.array([SIZE[0] / 2, SIZE[1] / 2, 0]) + [*rng.normal(0, [15, 6]), 0]
    shift_TC = (moved_TC * pixels_T[:, None] + middle_C) / picture_C
    scale_TC = pixels_T[:, None] / picture_C
    return turned_TVC * scale_TC[:, None].astype(np.float32) + shift_TC[:, None].astype(np.float32)


def _rotation(yaw_T: np.ndarray, pitch_T: np.ndarray, roll_T: np.ndarray) -> np.ndarray:
    """f32 [T, 3, 3]: roll after pitch after yaw."""

    def about(axis: int, angle_T: np.ndarray) -> np.ndarray:
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn_TCC = np.tile(np.eye(3), (len(angle_T), 1, 1))
        turn_TCC[:, a, a] = turn_TCC[:, b, b] = np.cos(angle_T)
        turn_TCC[:, b, a] = np.sin(angle_T)
        turn_TCC[:, a, b] = -turn_TCC[:, b, a]
        return turn_TCC

    return (about(2, roll_T) @ about(0, pitch_T) @ about(1, yaw_T)).astype(np.float32)


def _lost(rng: np.random.Generator, frames: int, dropped: float) -> np.ndarray:
    """Bool [T]: frames without a face, in bursts of one to three (two on average), never all of them."""
    lost_T = np.zeros(frames, bool)
    for start in np.flatnonzero(rng.random(frames) < dropped / 2):
        lost_T[start : start + rng.integers(1, 4)] = True
    lost_T[frames // 2] &= not lost_T.all()
    return lost_T
