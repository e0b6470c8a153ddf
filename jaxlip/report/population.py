"""What the runs of a population say together: spreads over seeds, folds pooled, and whether two configs differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlip.data.batches import Corpus
from jaxlip.data.folds import Subset, read_corpora
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.metrics.over_runs import Spread, over_runs
from jaxlip.metrics.paired import Difference, score_difference
from jaxlip.metrics.scores import Score, Scores
from jaxlip.report.saved import Saved, load_saved
from jaxlip.report.tables import format_rows


def load_all(folders: Sequence[RunFolder]) -> tuple[list[Saved], list[Corpus]]:
    """The best checkpoints of runs that were trained together, and their data. Raises UserError where those differ."""
    saved: list[Saved] = []
    for folder in folders:
        saved.append(load_saved(folder, like=saved[0] if saved else None))
    corpora = read_corpora([one.meta.experiment for one in saved])
    for one, corpus in zip(saved, corpora, strict=True):
        one.check_data(corpus)
    return saved, corpora


def score_seeds(folders: Sequence[RunFolder], split: str | None) -> tuple[str, list[Scores]]:
    """All runs' scores on the same split: by default test, or val where there is none."""
    saved, corpora = load_all(folders)
    corpus = corpora[0]
    split = split or ("test" if "test" in corpus.splits else "val")
    outputs = [one.predict(corpus, split)[0] for one in saved]
    examples, train = corpus.splits[split], corpus.splits["train"]
    return split, [one.task.score(out, examples, train, one.meta.spec) for one, out in zip(saved, outputs, strict=True)]


def score_folds(folders: Sequence[RunFolder]) -> tuple[list[Scores], Scores]:
    """Each run's scores on the part that it did not train on, and those of all parts pooled: every example of training
    and validation once, by the run that has not seen it."""
    saved, corpora = load_all(folders)
    parts = [corpus.splits["val"] for corpus in corpora]
    outputs = [one.predict(corpus, "val")[0] for one, corpus in zip(saved, corpora, strict=True)]
    scores = [
        one.task.score(out, part, corpus.splits["train"], one.meta.spec)
        for one, out, part, corpus in zip(saved, outputs, parts, corpora, strict=True)
    ]
    assert all(isinstance(part, Subset) for part in parts)
    whole = parts[0].whole  # type: ignore[attr-defined]
    pooled = saved[0].task.score(_pool(parts, outputs), whole, whole, saved[0].meta.spec)  # type: ignore[arg-type]
    return scores, pooled


def _pool(parts: Sequence[Subset], outputs: Sequence[list[Any]]) -> list[Any]:
    """Outputs on parts, in the order of the whole."""
    by_bucket: dict[int, list[tuple[np.ndarray, Any]]] = {}
    for part, buckets in zip(parts, outputs, strict=True):
        for (bucket, rows_N), out in zip(part.rows, buckets, strict=True):
            by_bucket.setdefault(bucket, []).append((rows_N, out))
    pooled = []
    for _, found in sorted(by_bucket.items()):
        order_N = np.argsort(np.concatenate([rows_N for rows_N, _ in found]))
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(out for _, out in found))
        pooled.append(jax.tree.map(lambda leaf, order_N=order_N: leaf[order_N], joined))
    return pooled


def spreads(runs: Sequence[Scores], *, seed: int = 0) -> dict[str, Spread]:
    """The spread of every score that all runs have."""
    names = [name for name in runs[0].scores if all(name in run.scores for run in runs)]
    return {name: over_runs([run.scores[name] for run in runs], seed=seed) for name in names}


def format_spreads(by_name: Mapping[str, Spread], pooled: Mapping[str, Score] | None = None) -> str:
    """A line a score; `pooled` gives value and interval where runs are scored on different clips."""
    rows = []
    for name, spread in by_name.items():
        score = pooled[name] if pooled else spread.mean
        row: dict[str, Any] = {"score": name, "mean": _four(spread.mean.value), "sd": _four(spread.sd)}
        if pooled:
            row["pooled"] = _four(score.value)
        floor = "" if score.floor is None else _four(score.floor)
        rows.append(
            row
            | {"95 % interval": f"[{score.low:.4f}, {score.high:.4f}]"}
            | {"lowest": _four(min(spread.values)), "highest": _four(max(spread.values)), "floor": floor}
        )
    return format_rows(rows)


def _four(value: float) -> str:
    return f"{value:.4f}"


def compare(a: Mapping[str, Spread], b: Mapping[str, Spread]) -> dict[str, Difference]:
    """B minus A in every score, over runs and clips. Raises UserError if they are not of the same clips."""
    found = {name: score_difference(a[name].mean, b[name].mean) for name in a if name in b}
    kept = {name: difference for name, difference in found.items() if difference is not None}
    if not kept:
        raise UserError("the two populations are not scored on the same clips and cannot be compared.")
    return kept


def format_differences(differences: Mapping[str, Difference]) -> str:
    rows = [
        {
            "score": name,
            "difference": f"{found.value:+.4f}",
            "95 % interval": f"[{found.low:+.4f}, {found.high:+.4f}]",
            "": "differ" if found.clear else "no clear difference",
        }
        for name, found in differences.items()
    ]
    return format_rows(rows)


def to_json(by_name: Mapping[str, Spread]) -> dict[str, Any]:
    return {
        name: {"mean": s.mean.value, "sd": s.sd, "low": s.mean.low, "high": s.mean.high, "values": list(s.values)}
        | {"floor": s.mean.floor}
        for name, s in by_name.items()
    }
