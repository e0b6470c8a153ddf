"""A parametric mouth: visemes as targets of six articulation parameters, which move the mean face; and a small lexicon.

Coarticulation follows Cohen and Massaro, "Modeling coarticulation in synthetic visual speech" (1993): each viseme pulls
the mouth toward its target with a dominance that decays on both sides of its centre; the mouth is the weighted mean.
Spellings are broad (one viseme a sound, homophenes such as t, d and n merged, w as U and y as I), not a pronunciation
dictionary. Many words are made of the same visemes in another order, so that no still picture tells them apart.

P is the axis of articulation parameters, S of visemes spoken one after the other.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxlip.face.mean_face import mean_face
from jaxlip.face.presets import LIPS_INNER

PARAMETERS = ("jaw", "open", "wide", "round", "raise", "tuck")
"""Jaw lowered; lips parted (negative: pressed); corners apart; pursed and pushed out; upper lip up; lower lip in."""

DECAY = 1.5
"""Decay of dominance per half duration away from a viseme's centre; larger is crisper, less coarticulated speech."""


class Viseme(NamedTuple):
    """Target in the order of `PARAMETERS`, pull on its neighbours, and usual duration in 25 fps frames."""

    target: tuple[float, ...]
    dominance: float
    frames: float


# Lips and teeth are sure of their place (bilabials, labiodentals, rounding); tongue sounds follow their neighbours.
VISEMES: dict[str, Viseme] = {
    "neutral": Viseme((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0.6, 3.6),
    "P": Viseme((0.0, -0.7, 0.0, 0.1, 0.0, 0.0), 2.0, 2.4),
    "F": Viseme((0.05, 0.0, 0.1, 0.0, 0.3, 1.0), 1.8, 2.4),
    "TH": Viseme((0.25, 0.5, 0.1, 0.0, 0.1, 0.0), 0.9, 2.4),
    "T": Viseme((0.2, 0.3, 0.1, 0.0, 0.0, 0.0), 0.6, 1.9),
    "K": Viseme((0.35, 0.2, 0.0, 0.0, 0.0, 0.0), 0.5, 2.2),
    "CH": Viseme((0.05, 0.5, -0.2, 0.7, 0.5, 0.0), 1.4, 2.6),
    "S": Viseme((0.0, 0.5, 0.4, 0.0, 0.2, 0.0), 1.0, 2.6),
    "L": Viseme((0.35, 0.4, 0.0, 0.0, 0.0, -0.2), 0.7, 2.2),
    "R": Viseme((0.1, 0.3, -0.2, 0.5, 0.0, 0.1), 0.9, 2.2),
    "A": Viseme((1.0, 0.7, 0.1, 0.0, 0.1, 0.0), 1.2, 3.4),
    "E": Viseme((0.6, 0.6, 0.5, 0.0, 0.1, 0.0), 1.1, 3.1),
    "I": Viseme((0.2, 0.5, 1.0, 0.0, 0.1, 0.0), 1.2, 2.9),
    "O": Viseme((0.6, 0.4, -0.2, 0.7, 0.0, 0.0), 1.4, 3.1),
    "U": Viseme((0.15, -0.1, -0.4, 1.2, 0.0, 0.0), 1.6, 2.9),
}
NAMES = tuple(VISEMES)
TARGETS_SP = np.array([viseme.target for viseme in VISEMES.values()], np.float32)
DOMINANCE_S = np.array([viseme.dominance for viseme in VISEMES.values()], np.float32)
FRAMES_S = np.array([viseme.frames for viseme in VISEMES.values()], np.float32)

# Look-alikes stand together: mirrored pairs (tap, pat), anagrams (stop, spot, post), neighbours by one viseme.
_SPELLING = """
we U I; you I U; tea T I; eat I T; tap T A P; pat P A T; lip L I P; pill P I L; leaf L I F; feel F I L; sheep CH I P
peach P I CH; chief CH I F; fish F I CH; team T I P; meet P I T; teach T I CH; cheat CH I T; safe S E F; face F E S
same S E P; maze P E S; stop S T O P; spot S P O T; post P O S T; pots P O T S; step S T E P; pets P E T S; pest P E S T
slip S L I P; lips L I P S; list L I S T; slit S L I T; spit S P I T; tips T I P S; mist P I S T; late L E I T
tail T E I L; let L E T; tell T E L; time T A I P; might P A I T; life L A I F; file F A I L; tool T U L; loot L U T
room R U P; moor P U R; rope R O P; four F O R; path P A TH; thumb TH A P; far F A R; rough R A F; arm A R P
mark P A R K; art A R T; tar T A R; star S T A R; arts A R T S; shoe CH U; show CH O; see S I; ease I S; yes I E S
say S E I; ace E I S; way U E I; wall U O L; law L O U; cool K U L; look L U K; call K O L; lock L O K; cloth K L O TH
mouth P A U TH; south S A U TH; month P A T TH; fire F A I R; price P R A I S; rice R A I S; sire S A I R; like L A I K
kind K A I T; after A F T E R; before P I F O R; water U O T E R; family F A P I L I; company K A P E T I
police P O L I S; people P I P O L; problem P R O P L E P; because P I K O S; support S A P O R T
something S A P TH I K; question K U E S CH E T; together T U K E TH E R; tomorrow T U P O R O; children CH I L T R E T
important I P O R T A T; minister P I T I S T E R; president P R E S I T E T; political P O L I T I K A L
government K A F E R P E T; different T I F R E T; possible P O S I P L; economy I K O T O P I; perhaps P E R A P S
beautiful P I U T I F U L; over O F E R; river R I F E R; never T E F E R; seven S E F E T
"""


def _parse(spelling: str) -> dict[str, tuple[str, ...]]:
    entries = [entry.split() for line in spelling.strip().splitlines() for entry in line.split(";")]
    return {word: tuple(visemes) for word, *visemes in entries}


LEXICON: dict[str, tuple[str, ...]] = _parse(_SPELLING)


def blend(
    targets_SP: Float[np.ndarray, "S P"],
    dominance_S: Float[np.ndarray, " S"],
    centre_S: Float[np.ndarray, " S"],
    frames_S: Float[np.ndarray, " S"],
    time_T: Float[np.ndarray, " T"],
) -> Float[np.ndarray, "T P"]:
    """Articulation over time: the mean of the targets, weighted by dominance (Cohen and Massaro 1993).

    `centre_S` and `frames_S` (durations) are in the unit of `time_T`.
    """
    distance_TS = np.abs(time_T[:, None] - centre_S) / (frames_S / 2)
    log_TS = np.log(dominance_S) - DECAY * distance_TS
    # Shifted by the strongest, so that a frame far from every viseme does not divide 0 by 0.
    weight_TS = np.exp(log_TS - log_TS.max(axis=1, keepdims=True))
    return (weight_TS / weight_TS.sum(axis=1, keepdims=True)) @ targets_SP


def _fade(value: np.ndarray, one: float, zero: float) -> np.ndarray:
    """1 at `one`, 0 at `zero`, smooth between and constant beyond."""
    part = np.clip((value - zero) / (one - zero), 0, 1)
    return part * part * (3 - 2 * part)


class _Regions(NamedTuple):
    """Weights [V] of the mean face's points, in [0, 1]; `across` from -1 to 1, lip corner to lip corner."""

    across: np.ndarray
    arch: np.ndarray
    """1 in the middle of the lips, 0 at and beyond their corners."""
    upper: np.ndarray
    """1 on the upper lip, gone below the nose; 0 on the lower lip."""
    lower: np.ndarray
    """1 on the lower lip, gone above the chin."""
    around: np.ndarray
    """1 on the lips, falling off around them."""
    jaw: np.ndarray
    """1 on the lower lip and the chin, gone at the ears."""
    height: np.ndarray
    """Signed distance below the line between the lips, in inter-ocular distances."""


@functools.cache
def _regions() -> _Regions:
    face_VC = mean_face().astype(np.float64)
    x_V, y_V = face_VC[:, 0], face_VC[:, 1]
    half = len(LIPS_INNER) // 2
    above, below = LIPS_INNER[: half + 1], (LIPS_INNER[0], *LIPS_INNER[:half:-1], LIPS_INNER[half])
    line_V = (np.interp(x_V, *face_VC[list(above), :2].T) + np.interp(x_V, *face_VC[list(below), :2].T)) / 2
    height_V, corner = y_V - line_V, abs(face_VC[61, 0])
    arch_V = np.clip(1 - (x_V / corner) ** 2, 0, 1)
    radius_V = np.hypot(np.maximum(np.abs(x_V) - corner, 0), np.maximum(np.abs(height_V) - 0.2, 0))
    # Under the nose (0.4 above the lips) nothing moves, so that a viseme never changes the face's own frame.
    free_V = _fade(height_V, -0.2, -0.4)
    under_V = (height_V > 0) * arch_V + (1 - arch_V) * _fade(height_V, 0.35, -0.15)
    return _Regions(
        across=np.clip(x_V / corner, -1, 1),
        arch=arch_V,
        upper=(height_V <= 0) * free_V,
        lower=(height_V > 0) * _fade(height_V, 0.25, 0.55),
        around=_fade(radius_V, 0.0, 0.4) * free_V,
        jaw=under_V * _fade(np.abs(x_V), 0.5, 1.2),
        height=height_V,
    )


@functools.cache
def movement_PVC() -> np.ndarray:
    """f32 [P, 478, 3]: displacement of the mean face by one unit of each parameter, in inter-ocular distances (63 mm).

    Nose, eyes and forehead stay where they are.
    """
    at, zero_V = _regions(), np.zeros(len(mean_face()))
    # The power follows the gap of the resting mouth, so that pressed lips meet everywhere and nowhere cross.
    upper_V, lower_V = at.upper * at.arch**1.5, at.lower * at.arch**1.5
    bulge_V = at.around * (0.4 + 0.6 * at.arch)
    fields = {
        "jaw": (zero_V, 0.17 * at.jaw, 0.05 * at.jaw),
        "open": (zero_V, 0.05 * lower_V - 0.035 * upper_V, zero_V),
        "wide": (
            0.065 * at.across * at.around,
            -0.1 * at.height * at.around * at.arch,
            0.02 * at.across**2 * at.around,
        ),
        "round": (-0.1 * at.across * at.around, 0.1 * at.height * at.around * at.arch, -0.07 * bulge_V),
        "raise": (zero_V, -0.06 * at.upper * at.around * (0.3 + 0.7 * at.arch), zero_V),
        "tuck": (zero_V, -0.05 * lower_V, 0.06 * lower_V),
    }
    return np.stack([np.stack(fields[name], axis=-1) for name in PARAMETERS]).astype(np.float32)


@functools.cache
def anatomy_AVC() -> np.ndarray:
    """f32 [2, 478, 3]: what one unit of relative mouth width and of lip thickness adds to the mean face."""
    at, face_VC = _regions(), mean_face()
    width_VC = face_VC * np.array([1, 0, 0]) * at.around[:, None]
    thickness_VC = np.stack([0 * at.height, at.height * at.around, -0.2 * at.around * at.arch], axis=-1)
    return np.stack([width_VC, thickness_VC]).astype(np.float32)


def move(articulation_TP: Float[np.ndarray, "T P"]) -> Float[np.ndarray, "T V C"]:
    """Displacement of each point of the mean face in each frame, in inter-ocular distances."""
    basis_PVC = movement_PVC()
    frames, points = len(articulation_TP), basis_PVC.shape[1:]
    return (articulation_TP @ basis_PVC.reshape(len(basis_PVC), -1)).reshape(frames, *points)
