"""Accuracy, top-k, macro F1, balanced accuracy, per-class table and confusion of a classifier, with floors. NumPy."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from jaxlip.metrics.scores import Score, Scores


def confusion_matrix(
    truth_N: Int[np.ndarray, " N"], guess_N: Int[np.ndarray, " N"], classes: int, weights_N=None
) -> np.ndarray:
    """Weighted counts [K, K]: row = truth, column = guess."""
    weights_N = np.ones(len(truth_N)) if weights_N is None else weights_N
    flat = np.bincount(truth_N * classes + guess_N, weights=weights_N, minlength=classes * classes)
    return flat.reshape(classes, classes)


def accuracy(confusion_KK: np.ndarray) -> float:
    return float(np.trace(confusion_KK) / max(confusion_KK.sum(), 1e-9))


def balanced_accuracy(confusion_KK: np.ndarray) -> float:
    """Mean recall over the classes that occur."""
    support_K = confusion_KK.sum(axis=1)
    present_K = support_K > 0
    return float((np.diag(confusion_KK)[present_K] / support_K[present_K]).mean()) if present_K.any() else 0.0


def class_f1(confusion_KK: np.ndarray) -> np.ndarray:
    """F1 of each class [K]; 0 where a class neither occurs nor is guessed."""
    hits_K = np.diag(confusion_KK)
    return 2 * hits_K / np.maximum(confusion_KK.sum(axis=0) + confusion_KK.sum(axis=1), 1e-9)


def macro_f1(confusion_KK: np.ndarray) -> float:
    """Mean F1 over the classes that occur or are guessed."""
    seen_K = confusion_KK.sum(axis=0) + confusion_KK.sum(axis=1) > 0
    return float(class_f1(confusion_KK)[seen_K].mean()) if seen_K.any() else 0.0


def rank_of_truth(logits_NK: Float[np.ndarray, "N K"], truth_N: Int[np.ndarray, " N"]) -> np.ndarray:
    """How many classes score above the true one [N] (a tie counts against the model)."""
    truth_N1 = np.take_along_axis(logits_NK, truth_N[:, None], axis=1)
    return (logits_NK >= truth_N1).sum(axis=1) - 1


def classification_scores(
    logits_NK: Float[np.ndarray, "N K"],
    truth_N: Int[np.ndarray, " N"],
    groups_N: np.ndarray,
    train_labels_M: Int[np.ndarray, " M"],
    classes: tuple[str, ...],
) -> Scores:
    """Every score beside the floor of answering without looking: the classes by their frequency in training.

    `groups_N` names the clip of each example, the unit of the bootstrap. Raises ValueError for logits that are not
    finite or do not fit the classes.
    """
    if logits_NK.shape != (len(truth_N), len(classes)) or not np.isfinite(logits_NK).all():
        raise ValueError(f"logits of shape {logits_NK.shape} for {len(truth_N)} examples of {len(classes)} classes")
    size = len(classes)
    rank_N, guess_N = rank_of_truth(logits_NK, truth_N), logits_NK.argmax(axis=1)
    frequent_K = np.argsort(-np.bincount(train_labels_M, minlength=size), kind="stable")
    majority_N = np.full(len(truth_N), frequent_K[0])
    constant_KK = confusion_matrix(truth_N, majority_N, size)

    def of_confusion(measure: Callable[[np.ndarray], float]) -> Score:
        def statistic(weights_N):
            return measure(confusion_matrix(truth_N, guess_N, size, weights_N))

        return Score.of(statistic, groups_N, floor=measure(constant_KK))

    def top(k: int) -> Score:
        floor = float(np.isin(truth_N, frequent_K[:k]).mean())
        return Score.of(lambda w: float(np.average(rank_N < k, weights=w)), groups_N, floor=floor)

    confusion_KK = confusion_matrix(truth_N, guess_N, size).astype(int)
    scores = {
        "accuracy": of_confusion(accuracy),
        "top5": top(5),
        "macro_f1": of_confusion(macro_f1),
        "balanced_accuracy": of_confusion(balanced_accuracy),
    }
    return Scores(
        count=len(truth_N),
        scores=scores,
        tables={"words": _class_table(confusion_KK, classes)},
        classes=classes,
        confusion_KK=confusion_KK,
    )


def _class_table(confusion_KK: np.ndarray, classes: tuple[str, ...]) -> list[dict]:
    """One row a class, most frequent first: support, precision, recall, F1, and what it is most taken for."""
    f1_K = class_f1(confusion_KK)
    rows = []
    for k in np.argsort(-confusion_KK.sum(axis=1), kind="stable"):
        support, guessed, hits = confusion_KK[k].sum(), confusion_KK[:, k].sum(), confusion_KK[k, k]
        wrong_K = np.where(np.arange(len(classes)) == k, 0, confusion_KK[k])
        rows.append(
            {
                "word": classes[k],
                "support": int(support),
                "precision": float(hits / guessed) if guessed else 0.0,
                "recall": float(hits / support) if support else 0.0,
                "f1": float(f1_K[k]),
                "taken_for": classes[wrong_K.argmax()] if wrong_K.any() else "",
            }
        )
    return rows
