"""A built-in corpus of made-up signing, so that everything runs without a download: scores say nothing about real
signs.

Each gloss is a handshape of the right hand (for some, of both), and a way from one place in front of the body to
another. Signers differ in size, place and tempo; hands are lost for some frames at a time.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxlip.config import Component, require
from jaxlip.data.clips import Clip, ClipRef, SpokenWord
from jaxlip.face.mean_face import mean_face
from jaxlip.holistic.layout import FACE, IDS, LEFT_HAND, POINTS, POSE, RIGHT_HAND

FPS = 25.0
SIZE = (640, 480)
SIGNERS = {"train": 6, "val": 2, "test": 3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Glosses(Component):
    """A corpus made on the fly from its seed."""

    glosses: int = 20
    """Vocabulary size."""
    longest: int = 5
    """Glosses of a sentence at the most; at the least it has two."""
    train: int = 200
    """Training clips."""
    val: int = 40
    """Validation clips."""
    test: int = 80
    """Test clips."""
    noise: float = 0.002
    """Standard deviation of every coordinate's jitter, in picture heights."""
    lost: float = 0.05
    """Part of the frames in which a hand is lost, in bursts of one to four."""
    seed: int = 0
    """Seeds everything."""

    def __post_init__(self):
        require(self.glosses >= 2, self, "glosses", "2 or more")
        require(self.longest >= 2, self, "longest", "2 or more")
        require(0 <= self.lost <= 0.5, self, "lost", "in [0, 0.5]")


def vocabulary(data: Any) -> tuple[str, ...]:
    return tuple(f"GLOSS{k:02d}" for k in range(data.glosses.glosses))


@functools.lru_cache(maxsize=4)
def _signs(config: Glosses) -> list[dict[str, np.ndarray]]:
    """For every gloss: bends of five fingers, and the places of both wrists at its two ends, in shoulder widths."""
    rng = np.random.default_rng([config.seed, 1])
    signs = []
    for _ in range(config.glosses):
        ends_2C = rng.uniform([-0.9, -0.6, -0.5], [0.3, 1.2, 0.0], (2, 3))
        both = rng.random() < 0.4
        left_2C = ends_2C * [-1, 1, 1] if both else np.tile([0.7, 1.6, 0.0], (2, 1))
        bend_2F = rng.choice([0.0, 0.6, 1.3], (2, 5))
        signs.append(
            {"right": ends_2C, "left": left_2C, "bend_right": bend_2F, "bend_left": bend_2F if both else bend_2F * 0}
        )
    return signs


def hand(bend_F: np.ndarray, *, left: bool) -> np.ndarray:
    """[21, 3]: a hand as long as 1 from wrist to knuckles, held up, its fingers bent by so many radians a joint."""
    points = [np.zeros(3)]
    for finger, spread in enumerate((-0.9, -0.3, 0.0, 0.25, 0.5)):
        joint, turn = np.array([spread * 0.8, -1.0 if finger else -0.4, 0.0]), 0.0
        points.append(joint)
        for _ in range(3):
            turn += bend_F[finger]
            joint = joint + 0.4 * np.array([0.3 * spread, -np.cos(turn), -np.sin(turn)])
            points.append(joint)
    hand_VC = np.array(points)
    return hand_VC * [-1, 1, 1] if left else hand_VC


@functools.cache
def _body() -> tuple[np.ndarray, np.ndarray]:
    """Pose [33, 3] and face [468, 3] of somebody who stands still, in shoulder widths from between the shoulders."""
    pose_VC = np.zeros((POSE.size, 3))
    pose_VC[:11] = [0.0, -0.7, -0.2]
    pose_VC[11:13] = [[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]]
    pose_VC[23:] = [0.0, 1.6, 0.0]
    return pose_VC, 0.2 * mean_face()[: FACE.size] + [0.0, -0.7, -0.2]


def find(data: Any) -> Iterator[ClipRef]:
    config: Glosses = data.glosses
    for split, signers in SIGNERS.items():
        for n in range(getattr(config, split)):
            yield ClipRef(name=f"{split}/{n:04d}", split=split, speaker=f"{split}{n % signers}", where=n)


def load(data: Any, ref: ClipRef) -> Clip:
    config: Glosses = data.glosses
    number = list(SIGNERS).index(ref.split)
    rng = np.random.default_rng([config.seed, 2, number, ref.where])
    signer = np.random.default_rng([config.seed, 3, number, int(ref.speaker.removeprefix(ref.split))])
    width, tempo = signer.uniform(0.2, 0.28), signer.uniform(0.8, 1.25)
    chosen = rng.integers(config.glosses, size=rng.integers(2, config.longest + 1))
    keys, words, time = [_rest()], [], 3.0
    times = [0.0]
    for k in chosen:
        sign, length = _signs(config)[k], rng.uniform(5, 9) * tempo
        for end in (0, 1):
            keys.append(
                {name: value[end] + 0.05 * rng.standard_normal(value[end].shape) for name, value in sign.items()}
            )
            times.append(time + end * length)
        words.append(SpokenWord(text=vocabulary(data)[k], start=time, end=time + length))
        time += length + rng.uniform(2, 5) * tempo
    keys.append(_rest())
    times.append(time + 2)
    frame_T = np.arange(int(np.ceil(times[-1])) + 1)
    tracks = {
        name: np.stack(
            [np.interp(frame_T, times, [key[name][i] for key in keys]) for i in range(len(keys[0][name]))], 1
        )
        for name in keys[0]
    }
    landmarks_TVC = _landmarks(tracks, len(frame_T)) * width + [0.5 * SIZE[0] / SIZE[1], 0.5, 0.0]
    landmarks_TVC += signer.normal(0, 0.03, 3) + config.noise * rng.standard_normal(landmarks_TVC.shape)
    landmarks_TVC[..., [0, 2]] *= SIZE[1] / SIZE[0]
    for part in (LEFT_HAND, RIGHT_HAND):
        for start in np.flatnonzero(rng.random(len(frame_T)) < config.lost / 2.5):
            landmarks_TVC[start : start + rng.integers(1, 5), part.points] = np.nan
    return Clip(
        name=ref.name,
        split=ref.split,
        speaker=ref.speaker,
        landmarks=landmarks_TVC.astype(np.float32),
        detected=np.ones(len(frame_T), bool),
        fps=FPS,
        size=SIZE,
        words=tuple(words),
        ids=IDS,
    )


def _rest() -> dict[str, np.ndarray]:
    places = {"right": np.array([-0.7, 1.6, 0.0]), "left": np.array([0.7, 1.6, 0.0])}
    return {**places, "bend_right": np.zeros(5), "bend_left": np.zeros(5)}


def _landmarks(tracks: dict[str, np.ndarray], frames: int) -> np.ndarray:
    """[T, 543, 3] in shoulder widths from between the shoulders."""
    landmarks_TVC = np.zeros((frames, POINTS, 3))
    pose_VC, face_VC = _body()
    landmarks_TVC[:, POSE.points], landmarks_TVC[:, FACE.points] = pose_VC, face_VC
    for side, part, wrist in (("left", LEFT_HAND, 15), ("right", RIGHT_HAND, 16)):
        landmarks_TVC[:, POSE.start + wrist] = tracks[side]
        for t in range(frames):
            shape_VC = hand(tracks[f"bend_{side}"][t], left=side == "left")
            landmarks_TVC[t, part.points] = tracks[side][t] + 0.25 * shape_VC
    return landmarks_TVC
