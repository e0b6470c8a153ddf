"""Pictures of a run: training curves, confusion matrix."""

import pathlib
from typing import Any

import numpy as np


def new_figure(width: float, height: float):
    """An empty matplotlib figure of so many inches."""
    # The object-oriented interface needs no display and keeps no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_curves(rows: list[dict[str, Any]], path: pathlib.Path, floors: dict[str, float]) -> None:
    """Training and validation curves of every metric that both have, over epochs, with floors as dashed lines."""
    names = [key.partition("/")[2] for key in rows[-1] if key.startswith("val/")]
    figure = new_figure(5.5 * len(names), 4.0)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        # Training figures are those of the steps themselves, with dropout, augmentation and smoothed targets.
        for split, label in (("train", "train, while training"), ("val", "val")):
            points = [(row["epoch"], row[f"{split}/{name}"]) for row in rows if f"{split}/{name}" in row]
            axes.plot(*zip(*points, strict=True), label=label)
        if name in floors:
            axes.axhline(floors[name], linestyle="--", color="grey", label="floor")
        axes.set(xlabel="epoch", ylabel=name, title=name)
        axes.legend()
    figure.savefig(path, dpi=120)


def plot_rates(
    rates_S: np.ndarray, losses_S: np.ndarray, smooth_S: np.ndarray, rate: float, path: pathlib.Path
) -> None:
    """Loss over the learning rate of a range test, every step and smoothed, and the rate that the config takes."""
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    axes.semilogx(rates_S, losses_S, ".", color="lightgrey", label="each batch")
    axes.semilogx(rates_S, smooth_S, label="running mean")
    axes.axvline(rate, linestyle="--", color="grey", label=f"optim.lr {rate:g}")
    axes.set(xlabel="learning rate", ylabel="training loss")
    axes.set_ylim(top=smooth_S[0] + 0.5 * abs(smooth_S[0] - smooth_S.min()))
    axes.legend()
    figure.savefig(path, dpi=120)


def plot_confusion(confusion_KK: np.ndarray, classes: tuple[str, ...], path: pathlib.Path) -> None:
    """Rows are the truth, columns the guess, shaded by the part of the row's examples."""
    side = min(max(6.0, 0.19 * len(classes)), 24.0)
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    share_KK = confusion_KK / np.maximum(confusion_KK.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share_KK, vmin=0, vmax=1, cmap="magma_r")
    axes.set(xlabel="guess", ylabel="truth")
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
    axes.set_yticks(range(len(classes)), classes, fontsize=7)
    figure.colorbar(image, ax=axes, fraction=0.04, label="part of the true word's examples")
    figure.savefig(path, dpi=120)


def plot_pairs(pairs: dict[str, tuple[np.ndarray, np.ndarray]], path: pathlib.Path) -> None:
    """Guess over truth, a colour a group: as they are (logarithms, here), and what they are the logarithms of."""
    figure = new_figure(13.0, 6.0)
    for axes, scale in zip(figure.subplots(1, 2), ("log2", "linear"), strict=True):
        for name, (truth_N, guess_N) in pairs.items():
            x_N, y_N = (truth_N, guess_N) if scale == "log2" else (2.0**truth_N, 2.0**guess_N)
            axes.plot(x_N, y_N, ".", markersize=2, alpha=0.5, label=name, rasterized=True)
        shown = np.concatenate([truth_N for truth_N, _ in pairs.values()])
        # On a linear scale the largest few would leave all others in a corner.
        top = float(shown.max()) if scale == "log2" else float(2.0 ** np.percentile(shown, 95))
        bottom = float(shown.min()) if scale == "log2" else 0.0
        axes.plot([bottom, top], [bottom, top], color="grey", linewidth=1)
        axes.set(xlabel=f"truth ({scale})", ylabel=f"guess ({scale})", xlim=(bottom, top), ylim=(bottom, top))
        axes.legend(markerscale=5, fontsize=8)
    figure.savefig(path, dpi=120)
