"""A built-in corpus of users who write about how they feel, so that everything runs without a download.

Planted: the words tell of a mood; a user's own baseline, slow drift and autocorrelated residue are added; and users
differ in how their words are meant: some exaggerate, some play down, some say the opposite (irony). What words mean for
a user is what only a user embedding (or a long history of texts beside labels) can know.
"""

import dataclasses
import datetime

import numpy as np

from jaxlip.config import Component, require
from jaxlip.text.entries import Entry, Scale

SCALE = Scale(low=(-2.0, 0.0), high=(2.0, 2.0))
START = datetime.datetime(2024, 1, 1, 8)

# From low to high; the first and last are said where the mood is strongest.
VALENCE_WORDS = (
    "awful terrible miserable sad unhappy poor dull plain okay fine decent pleasant good happy lovely wonderful superb"
)
AROUSAL_WORDS = (
    "asleep drowsy calm quiet slow steady awake alert busy lively eager tense excited restless thrilled frantic"
)
FRAMES = (
    "today was {v} and i feel {a}",
    "work has been {v}, i am {a} now",
    "a {v} evening with friends, rather {a}",
    "feeling {a}; all in all a {v} day",
    "i slept little and feel {a}, the morning was {v}",
    "{v} news from home. still {a}",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserSeries(Component):
    """Sizes and planted effects, as standard deviations in units of the labels."""

    users: int = 60
    """How many people write."""
    entries: int = 40
    """Texts of each; the number varies by up to a half."""
    seed: int = 0
    """Seeds everything."""
    baseline: float = 0.5
    """Of the users' own levels."""
    drift: float = 0.2
    """Of where a user has drifted to in the end."""
    residue: float = 0.25
    """Of what neither words nor user explain; half of it carries over to the next text."""
    ironic: float = 0.3
    """Part of the users whose words mean the opposite."""

    def __post_init__(self):
        require(self.users >= 3, self, "users", "3 or more")
        require(self.entries >= 4, self, "entries", "4 or more")
        for field in ("baseline", "drift", "residue", "seed"):
            require(getattr(self, field) >= 0, self, field, "0 or more")
        require(0 <= self.ironic <= 1, self, "ironic", "in [0, 1]")


def read(config: UserSeries) -> list[Entry]:
    """All entries, user by user."""
    return [entry for user in range(config.users) for entry in _user(config, user)]


def _user(config: UserSeries, user: int) -> list[Entry]:
    rng = np.random.default_rng([config.seed, user])
    count = max(4, round(config.entries * rng.uniform(0.5, 1.5)))
    baseline_2 = rng.normal(0, config.baseline, 2) * (1, 0.5)
    drift_2 = rng.normal(0, config.drift, 2)
    gain = rng.uniform(0.6, 1.2) * (-1 if rng.random() < config.ironic else 1)
    residue_2, time, entries = np.zeros(2), START, []
    for n in range(count):
        mood_2 = rng.uniform(-1, 1, 2)
        residue_2 = 0.5 * residue_2 + rng.normal(0, config.residue * np.sqrt(0.75), 2)
        meant_2 = gain * mood_2 * (1.2, 0.6)
        labels_2 = meant_2 + baseline_2 + drift_2 * n / count + residue_2 + SCALE.middle
        labels = tuple(float(v) for v in np.clip(labels_2, SCALE.low, SCALE.high).round(3))
        time += datetime.timedelta(hours=float(rng.gamma(2.0, 12.0)))
        entries.append(
            Entry(user=f"u{user:03d}", id=f"{n:03d}", text=_text(rng, mood_2), labels=labels, time=time)  # type: ignore[arg-type]
        )
    return entries


def _text(rng: np.random.Generator, mood_2: np.ndarray) -> str:
    """A sentence whose words tell the mood, in [-1, 1], with a little carelessness."""
    chosen = []
    for mood, words in zip(mood_2, (VALENCE_WORDS.split(), AROUSAL_WORDS.split()), strict=True):
        place = (mood + 1) / 2 * (len(words) - 1) + rng.normal(0, 0.7)
        chosen.append(words[int(np.clip(round(place), 0, len(words) - 1))])
    return FRAMES[rng.integers(len(FRAMES))].format(v=chosen[0], a=chosen[1])
