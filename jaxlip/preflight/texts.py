"""Whether what is known of users stays on its side: their labels, their future, and who they are."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxlip.data.batches import Corpus
from jaxlip.data.texts import FEATURES, SPLITS, TEXT_SOURCES, TextData, entry_name, load_texts, user_of
from jaxlip.preflight.check import Check, failed, passed, some, warned
from jaxlip.preflight.probe import Probe
from jaxlip.text.entries import Entry, by_user

HISTORY = FEATURES.index("entry_number")
"""Column that grows with the entries that a user has written before."""


def check_texts(probe: Probe) -> Iterator[Check]:
    data = probe.experiment.data
    if not isinstance(data, TextData) or not TEXT_SOURCES[data.source].series:
        return
    yield _labels(probe, data)
    yield _order(probe)
    yield from _users(probe)


def _labels(probe: Probe, data: TextData) -> Check:
    """Reads the data again with another label for the last entry that each held-out user wrote: no input may differ.

    Nothing comes after that entry, so whatever changes has used a label of its own time or of its future. Entries of
    the training split keep theirs: encoders may be fitted to them.
    """
    held = {name for split in SPLITS[1:] for name in _names(probe.corpus, split)}
    corpus = load_texts(data, relabel=lambda entries: _relabelled(entries, data, held))
    changed: list[str] = []
    row_of = {name: (split, row) for split, part in corpus.splits.items() for row, name in enumerate(part.names[0])}
    for split, part in probe.corpus.splits.items():
        for row, name in enumerate(part.names[0]):
            there, other_row = row_of[name]
            here, again = part.buckets[0], corpus.splits[there].buckets[0]
            if any(not np.array_equal(getattr(here, n)[row], getattr(again, n)[other_row]) for n in probe.inputs):
                changed.append(f"{name} ({split})")
    if changed:
        saw = f"inputs of {len(changed)} entries change with labels of their own time or later: {some(changed)}"
        return failed("leaks.labels", saw, "features may use what was written before, and nothing else")
    return passed(
        "leaks.labels",
        f"other labels for users' last entries, where held out, change no input of {len(row_of)} entries",
    )


def _relabelled(entries: list[Entry], data: TextData, held: set[str]) -> list[Entry]:
    scale = TEXT_SOURCES[data.source].scale
    last = {id(series[-1]) for series in by_user(entries).values() if entry_name(series[-1]) in held}

    def turned(labels: tuple[float, float]) -> tuple[float, float]:
        limits = zip(labels, scale.low, scale.high, strict=True)
        return tuple(low if 2 * value > low + high else high for value, low, high in limits)  # type: ignore[return-value]

    return [dataclasses.replace(e, labels=turned(e.labels)) if id(e) in last else e for e in entries]


def _order(probe: Probe) -> Check:
    """A user who is trained on is asked about later entries only."""
    newest = _history(probe.corpus, "train", max)
    early: list[str] = []
    shared: set[str] = set()
    for split in probe.corpus.splits.keys() - {"train"}:
        for user, history in _history(probe.corpus, split, min).items():
            if user in newest:
                shared.add(user)
                early += [user] if history <= newest[user] else []
    if early:
        saw = f"{len(early)} users are trained on entries later than some that are held out: {some(sorted(set(early)))}"
        return failed("leaks.order", saw, "their future is known: split each user by time, or by user")
    return passed("leaks.order", f"of {len(shared)} users in several splits, only later entries are held out")


def _history(corpus: Corpus, split: str, which: Any) -> dict[str, float]:
    """The largest or smallest number of earlier entries of each user."""
    found: dict[str, float] = {}
    for name, row_D in zip(_names(corpus, split), corpus.splits[split].buckets[0].features_BTD[:, -1], strict=True):
        value = float(row_D[HISTORY])
        found[user_of(name)] = which(found.get(user_of(name), value), value)
    return found


def _users(probe: Probe) -> Iterator[Check]:
    """A user who is not trained on has row 0, and that row is learned."""
    trained = {user_of(name) for name in _names(probe.corpus, "train")}
    strangers, wrong = set(), set()
    for split in probe.corpus.splits.keys() - {"train"}:
        rows_N = np.asarray(probe.corpus.splits[split].buckets[0].user_B)
        for name, row in zip(_names(probe.corpus, split), rows_N.tolist(), strict=True):
            if (user := user_of(name)) not in trained:
                strangers.add(user)
                wrong |= {user} if row else set()
    if wrong:
        saw = f"{len(wrong)} of {len(strangers)} users who are not trained on have another's row: {some(sorted(wrong))}"
        yield failed("texts.users", saw, "the index was built anew for a split: unknown users must have row 0")
        return
    saw = f"{len(strangers)} users are not trained on, and have row 0"
    if strangers and not getattr(probe.task, "user_dropout", 1.0) and (tables := _asked_of_strangers(probe)):
        saw += f" of {some(tables)}, which is never trained"
        yield warned("texts.users", saw, "hide users at random in training: --task.user_dropout 0.1")
    else:
        yield passed("texts.users", saw)


def _asked_of_strangers(probe: Probe) -> list[str]:
    """Tables of users whose row 0 has a part in what is said of somebody unknown."""
    rows = 1 + len(probe.corpus.spec.users)  # type: ignore[attr-defined]
    strangers = dataclasses.replace(probe.batch, user_B=np.zeros_like(probe.batch.user_B))
    _, grads, _ = probe.learn(*probe.start, strangers, jax.random.key(0))
    return [name for name, grad in grads.items() if grad.shape[:1] == (rows,) and bool(np.any(np.asarray(grad[0])))]


def _names(corpus: Corpus, split: str) -> tuple[str, ...]:
    return corpus.splits[split].names[0] if split in corpus.splits else ()
