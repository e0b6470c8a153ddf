"""Pictures of mouths: contact sheets of clips, and the mean mouth of each word. PNG, by matplotlib."""

import io
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from jaxlip.data.class_means import LIPS, ClassMean
from jaxlip.data.face import FaceClip
from jaxlip.face.presets import LIPS_OUTER
from jaxlip.report.plots import new_figure

COLUMNS = 14
"""Frames of a clip on a contact sheet."""
PITCH = 1.25
"""Height of its rows in widths of its columns."""
TILES = 10
"""Words in a row."""
MOST_WORDS = 120
OUTER, INNER = slice(0, len(LIPS_OUTER)), slice(len(LIPS_OUTER), len(LIPS))
INK, SPEECH, FILLED, SOFT = "#1b2026", "#14746f", "#c2410c", "#8a94a0"


def contact_sheet(clips: Sequence[tuple[FaceClip, str]], lip_rows: Sequence[int]) -> bytes:
    """A row a clip under its caption, frames at even distances: the lips as a model sees them.

    Green while a word is said, orange where no face was found and the frame is filled in, empty where it is masked.
    """
    figure = new_figure(12.0, 12 / COLUMNS * PITCH * len(clips))
    axes = figure.subplots()
    strokes: dict[str, list[np.ndarray]] = {INK: [], SPEECH: [], FILLED: []}
    for number, (clip, caption) in enumerate(clips):
        lips_TV2 = clip.landmarks_TVC[:, list(lip_rows), :2]
        seen_TV2 = lips_TV2[clip.frames_T] if clip.frames_T.any() else lips_TV2
        width = np.ptp(np.median(seen_TV2, axis=0)[:, 0]) or 1.0
        said_T = np.any([word.frames(len(lips_TV2)) for word in clip.words] or [np.zeros(len(lips_TV2), bool)], axis=0)
        axes.text(0, PITCH * number - 0.53, caption, fontsize=8, color=INK, va="center", parse_math=False)
        for column, t in enumerate(np.linspace(0, len(lips_TV2) - 1, COLUMNS).round().astype(int)):
            axes.text(column + 0.5, PITCH * number + 0.46, str(t), fontsize=6, color=SOFT, ha="center", va="center")
            if not clip.frames_T[t]:
                continue
            shape_V2 = 0.78 * (lips_TV2[t] - lips_TV2[t].mean(axis=0, keepdims=True)) / width
            colour = FILLED if not clip.detected_T[t] else SPEECH if said_T[t] else INK
            strokes[colour] += _outlines(shape_V2 + np.array([[column + 0.5, PITCH * number]]))
    _draw(axes, ((lines, colour, 1.0) for colour, lines in strokes.items()))
    axes.set(xlim=(-0.05, COLUMNS), ylim=(PITCH * len(clips) - 0.65, -0.65), aspect="equal")
    return _png(figure)


def class_sheet(means: Sequence[ClassMean]) -> bytes:
    """A tile a word: its mean mouth, and under it how far the mouth opens over the window, the word in green."""
    means = means[:MOST_WORDS]
    columns = min(TILES, len(means))
    rows = -(-len(means) // columns)
    figure = new_figure(1.2 * columns, 1.25 * rows)
    axes = figure.subplots()
    highest = max((float(np.nanmax(mean.opening_T, initial=0)) for mean in means), default=0) or 1.0
    widest = max((float(np.ptp(mean.shape_V2[:, 0])) for mean in means), default=0) or 1.0
    lips, curves, said = [], [], []
    for number, mean in enumerate(means):
        row, column = divmod(number, columns)
        label = mean.word if len(mean.word) < 13 else mean.word[:11] + "..."
        named = {"fontsize": 7, "color": INK, "ha": "center", "va": "center", "parse_math": False}
        axes.text(column + 0.5, row + 0.08, f"{label}  {mean.examples}", **named)
        lips += _outlines(0.8 * mean.shape_V2 / widest + np.array([[column + 0.5, row + 0.38]]))
        x_T = column + 0.08 + 0.84 * np.linspace(0, 1, len(mean.opening_T))
        curve_T2 = np.stack([x_T, row + 0.95 - 0.27 * mean.opening_T / highest], axis=1)
        curves.append(curve_T2[np.isfinite(curve_T2).all(axis=1)])
        said.append(curve_T2[(mean.speech_T >= 0.5) & np.isfinite(curve_T2).all(axis=1)])
    _draw(axes, ((lips, INK, 0.9), (curves, SOFT, 0.9), (said, SPEECH, 2.0)))
    axes.set(xlim=(0, columns), ylim=(rows, -0.05), aspect="equal")
    return _png(figure)


def _outlines(lips_V2: np.ndarray) -> list[np.ndarray]:
    return [np.concatenate([lips_V2[ring], lips_V2[ring][:1]]) for ring in (OUTER, INNER)]


def _draw(axes, layers: Iterable[tuple[list[np.ndarray], str, float]]) -> None:
    from matplotlib.collections import LineCollection

    for lines, colour, width in layers:
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width))
    axes.axis("off")


def _png(figure) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes; the words stand in the tables of the page as they are.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(content, dpi=110, format="png")
    return content.getvalue()
