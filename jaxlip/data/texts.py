"""Texts of users -> windows of each entry and the ones before it: embeddings, causal features, masks, splits."""

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from jaxlip.config import Component, require
from jaxlip.data.batches import Corpus, Split
from jaxlip.data.sources import emobank, essays, user_series
from jaxlip.data.sources.user_series import UserSeries
from jaxlip.data.text_encoders import default_cache, embed, encoder_size
from jaxlip.errors import UserError
from jaxlip.text.causal import CAUSAL_FEATURES, causal_features
from jaxlip.text.entries import Entry, Problem, Scale, by_user
from jaxlip.text.statistics import TEXT_STATISTICS, text_statistics
from jaxlip.text.tfidf import TfIdf, fit_tfidf

FEATURES = (*CAUSAL_FEATURES, *TEXT_STATISTICS)
SPLITS = ("train", "val", "test")
HELD_OUT = (0.7, 0.85)
"""Where the validation and the test part begin, of users and of each user's entries."""
NAMED = 20
"""Lines of a file that are named for each reason; config.json holds them all."""


@dataclasses.dataclass(frozen=True)
class TextSource:
    """`read(data)` gives all entries and the lines worth telling; `series` whether users write again and again."""

    read: Callable[[Any], tuple[list[Entry], list[Problem]]]
    scale: Scale
    series: bool


TEXT_SOURCES: dict[str, TextSource] = {
    "user_series": TextSource(lambda data: (user_series.read(data.user_series), []), user_series.SCALE, series=True),
    "essays": TextSource(lambda data: essays.read(_file(data)), essays.SCALE, series=True),
    "emobank": TextSource(lambda data: emobank.read(_file(data)), emobank.SCALE, series=False),
}


def _file(data: "TextData") -> pathlib.Path:
    if data.root is None:
        raise UserError(f"data.source={data.source} needs its CSV file: --data.root FILE.")
    return pathlib.Path(data.root)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextData(Component):
    """Where texts with valence and arousal come from and how they become arrays."""

    source: str = "user_series"
    """Where texts come from: user_series (built in), essays (the shared task's CSV) or emobank."""
    root: str | None = None
    """The CSV file; not used by user_series."""
    encoders: tuple[str, ...] = ("tfidf",)
    """What makes a vector of a text: tfidf, minilm (extra text), or the folder of a Hugging Face model; several stand
    side by side."""
    all_layers: bool = False
    """Take the means of all layers of a network, not that of the last alone."""
    tfidf_width: int = 768
    """Columns of tfidf."""
    cache: str | None = None
    """Folder of the vectors that networks gave; default: the user's cache."""
    window: int = 7
    """Entries of a user that are seen at once: the one to be judged and those before it."""
    held_out: str = "both"
    """What validation and test hold: users never trained on (users), the later entries of each user (later), or both.
    A source with splits of its own keeps them."""
    folds: int = 0
    """Groups of users for cross-validation, 3 or more; 0 leaves the splits as `held_out` says."""
    fold: int = 0
    """Which group is the test split; the next one selects, all others are trained on."""
    split_seed: int = 0
    """Shuffles users before they are cut into groups."""
    user_series: UserSeries = UserSeries()
    """The built-in corpus."""

    def __post_init__(self):
        require(self.source in TEXT_SOURCES, self, "source", f"one of {', '.join(TEXT_SOURCES)}")
        require(self.source != "user_series" or not self.root, self, "source", "essays or emobank if data.root is set")
        require(bool(self.encoders), self, "encoders", "tfidf, minilm or a folder")
        for field in ("tfidf_width", "window"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(self.held_out in ("users", "later", "both"), self, "held_out", "users, later or both")
        require(self.folds == 0 or self.folds >= 3, self, "folds", "0, or 3 or more")
        require(0 <= self.fold < max(self.folds, 1), self, "fold", f"from 0 to {max(self.folds, 1) - 1}")

    @property
    def text_width(self) -> int:
        """Width of a text's vector. Raises UserError for an encoder that is not there."""
        return sum(self._width(name) for name in self.encoders)

    def _width(self, name: str) -> int:
        if name == "tfidf":
            return self.tfidf_width
        width, layers = encoder_size(name)
        return width * (layers + 1) if self.all_layers else width


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EntryBatch:
    """Windows of T entries, the one to be judged last, padded in front.

    `text_BTD` f32 vectors of the texts; `features_BTD` f32, columns as in FEATURES; `entries_BT` bool, real entries;
    `user_B` int32 rows of the user table, 0 for a user who was not trained on; `target` f32 [B, 2], valence and
    arousal; `examples_B` bool, False for rows that only fill the last batch.
    """

    INPUTS: ClassVar = ("text_BTD", "features_BTD")
    PADDED: ClassVar = {"text_BTD": "entries_BT", "features_BTD": "entries_BT"}

    text_BTD: Any
    features_BTD: Any
    entries_BT: Any
    user_B: Any
    target: Any
    examples_B: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class AffectSpec(Component):
    """What an affect model is built from, kept with its checkpoint."""

    users: tuple[str, ...]
    """Those that are trained on; their rows of the table begin at 1. Under cross-validation all users, so that the
    folds' tables are of one size: nothing is ever learned in the rows of the others."""
    text: int
    """Width of a text's vector."""
    scale: Scale
    tfidf: TfIdf | None = None

    def with_users(self, number: int) -> "AffectSpec":
        """The same with so many users known, for counting parameters."""
        return dataclasses.replace(self, users=tuple(map(str, range(number))))


def text_shapes(config: TextData) -> AffectSpec:
    """The spec of these data without reading them, with no user known."""
    return AffectSpec(users=(), text=config.text_width, scale=TEXT_SOURCES[config.source].scale)


def load_texts(config: TextData, *, relabel: Callable[[list[Entry]], list[Entry]] | None = None) -> Corpus:
    """Reads a source into windows; `relabel` changes entries before anything is made of them. Raises UserError where
    nothing is left to train or validate on."""
    source = TEXT_SOURCES[config.source]
    entries, problems = source.read(config)
    entries = relabel(entries) if relabel else entries
    users = by_user(entries)
    split_of = assign_splits(config, users)
    rows = [(user, n) for user, series in users.items() for n in range(len(series))]
    flat = [users[user][n] for user, n in rows]
    train = [entry for entry in flat if split_of[entry.user, entry.id] == "train"]
    for split in ("train", "val"):
        if split not in split_of.values():
            raise UserError(f"data.source={config.source}: no entry in split {split}; {len(flat)} entries were read.")
    tfidf = None
    if "tfidf" in config.encoders:
        labels_NA = np.array([entry.labels for entry in train])
        tfidf = fit_tfidf([entry.text for entry in train], labels_NA, config.tfidf_width)
    trained = {entry.user for entry in train} if source.series else set()
    table = set(users) if trained and config.folds else trained
    spec = AffectSpec(users=tuple(sorted(table)), text=config.text_width, scale=source.scale, tfidf=tfidf)
    text_ND = text_vectors(config, [entry.text for entry in flat], tfidf)
    features_ND = np.concatenate([_features(series, source.scale) for series in users.values()])
    window = min(config.window, max(map(len, users.values())))
    # Users who are not trained on are unknown, whatever row they have.
    row_of = {user: n for n, user in enumerate(spec.users, start=1) if user in trained}
    splits = {}
    for split in SPLITS:
        chosen = [i for i, entry in enumerate(flat) if split_of[entry.user, entry.id] == split]
        if chosen:
            splits[split] = _windows(flat, rows, chosen, text_ND, features_ND, window, row_of)
    return Corpus(
        splits=splits,
        spec=spec,
        counts={
            "examples": {split: len(part) for split, part in splits.items()},
            "users": {split: len(set(map(user_of, part.names[0]))) for split, part in splits.items()},
            "lines": {reason: lines for reason, lines in _by_reason(problems).items()},
        },
        notes=tuple(_notes(problems)),
    )


def text_vectors(config: TextData, texts: list[str], tfidf: TfIdf | None) -> np.ndarray:
    """f32 [N, D]: what each encoder makes of each text, side by side. Raises UserError."""
    cache = pathlib.Path(config.cache) if config.cache else default_cache()
    parts = []
    for name in config.encoders:
        if name == "tfidf":
            assert tfidf is not None
            parts.append(tfidf(texts, config.tfidf_width))
        else:
            layers_NLD = embed(name, texts, cache)
            parts.append(layers_NLD.reshape(len(texts), -1) if config.all_layers else layers_NLD[:, -1])
    return np.concatenate(parts, axis=1)


def _features(series: list[Entry], scale: Scale) -> np.ndarray:
    statistics_ND = np.stack([text_statistics(entry.text) for entry in series])
    return np.concatenate([causal_features(series, scale), statistics_ND], axis=1)


def _windows(
    flat: list[Entry],
    rows: list[tuple[str, int]],
    chosen: list[int],
    text_ND: np.ndarray,
    features_ND: np.ndarray,
    window: int,
    row_of: dict[str, int],
) -> Split:
    """One example an entry; a user's entries lie side by side in `flat`, in the order of their times."""
    end_N1 = np.array(chosen)[:, None]
    place_N1 = np.array([rows[i][1] for i in chosen])[:, None]
    back_1T = np.arange(window - 1, -1, -1)[None]
    entries_NT = place_N1 >= back_1T
    index_NT = np.where(entries_NT, end_N1 - back_1T, end_N1)
    mask_NT1 = entries_NT[..., None]
    batch = EntryBatch(
        text_BTD=np.where(mask_NT1, text_ND[index_NT], np.float32(0)),
        features_BTD=np.where(mask_NT1, features_ND[index_NT], np.float32(0)),
        entries_BT=entries_NT,
        user_B=np.array([row_of.get(flat[i].user, 0) for i in chosen], np.int32),
        target=np.array([flat[i].labels for i in chosen], np.float32),
        examples_B=np.ones(len(chosen), bool),
    )
    names = tuple(entry_name(flat[i]) for i in chosen)
    return Split(buckets=(batch,), names=(names,), speakers=(tuple(flat[i].user for i in chosen),))


def entry_name(entry: Entry) -> str:
    """user/id, with the characters replaced that take names of examples apart."""
    return f"{entry.user}/{entry.id.replace('/', '_')}".replace("#", "_")


def user_of(name: str) -> str:
    return name.rpartition("/")[0]


def assign_splits(config: TextData, users: dict[str, list[Entry]]) -> dict[tuple[str, str], str]:
    """(user, id) -> split. No user is on both sides of a split by users; of one by time, later entries come later."""
    order = sorted(users, key=lambda user: hashlib.sha256(f"{config.split_seed}/{user}".encode()).digest())
    if config.folds:
        if len(users) < config.folds:
            raise UserError(f"data.folds={config.folds} is more than the {len(users)} users.")
        role = {config.fold: "test", (config.fold + 1) % config.folds: "val"}
        group_of = {user: role.get(n % config.folds, "train") for n, user in enumerate(order)}
        return {(user, entry.id): group_of[user] for user, series in users.items() for entry in series}
    split_of = {}
    for rank, user in enumerate(order):
        group = _part((rank + 0.5) / len(order)) if config.held_out != "later" else "train"
        for n, entry in enumerate(users[user]):
            later = _part((n + 0.5) / len(users[user])) if config.held_out != "users" else "train"
            split_of[user, entry.id] = entry.split or (group if group != "train" else later)
    return split_of


def _part(position: float) -> str:
    return SPLITS[sum(position > limit for limit in HELD_OUT)]


def _by_reason(problems: list[Problem]) -> dict[str, list[int]]:
    lines: dict[str, list[int]] = collections.defaultdict(list)
    for problem in problems:
        lines[f"{'kept' if problem.kept else 'left out'}: {problem.reason}"].append(problem.line)
    return dict(lines)


def _notes(problems: list[Problem]) -> list[str]:
    return [
        f"{reason} ({len(lines)} line{'s' if len(lines) > 1 else ''}: {', '.join(map(str, lines[:NAMED]))}"
        f"{', ...' if len(lines) > NAMED else ''})"
        for reason, lines in _by_reason(problems).items()
    ]
