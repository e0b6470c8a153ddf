"""Defects of the original systems that have to do with signs, users and codes: planted, and named by preflight. Those
of faces are in test_preflight.py, those of a run's curves in test_doctor.py; docs/preflight.md lists all."""

import dataclasses
import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_preflight import ARRAYS, NAMED, verdict
from tiny import changed, get_config

from jaxlip.config import Experiment, load_config
from jaxlip.data import texts
from jaxlip.data.batches import Split
from jaxlip.data.codes import Codes
from jaxlip.data.signs import SignData
from jaxlip.data.sources.glosses import Glosses
from jaxlip.data.sources.user_series import UserSeries
from jaxlip.data.texts import TextData, load_texts
from jaxlip.holistic.layout import FACE, LEFT_HAND, POSE, RIGHT_HAND
from jaxlip.metrics.mergeable import Mean
from jaxlip.models.affect_lstm import AffectLstm
from jaxlip.models.affect_mlp import AffectMlp
from jaxlip.models.base import Model
from jaxlip.models.conv_ctc import ConvCtc
from jaxlip.models.learned_sweep import LearnedSweep
from jaxlip.models.mobilenet1d import MobileNet1d
from jaxlip.preflight.codes import check_codes
from jaxlip.preflight.labels import check_labels
from jaxlip.preflight.leaks import check_leaks
from jaxlip.preflight.probe import Probe
from jaxlip.preflight.run import preflight
from jaxlip.preflight.signs import check_signs
from jaxlip.preflight.texts import check_texts
from jaxlip.preflight.use import check_use
from jaxlip.tasks.affect import Affect
from jaxlip.tasks.mheight import MHeight
from jaxlip.tasks.sign import Sign
from jaxlip.text.causal import causal_features

SIGNS = SignData(features="two_hands", glosses=Glosses(glosses=6, longest=3, train=16, val=6, test=6), buckets=(80,))
USERS = TextData(tfidf_width=24, user_series=UserSeries(users=9, entries=8))
CODES = Codes(n=5, groups=((2, 2), (2, 3), (3, 2)), integers=0.0, scaled=1.0, train=64, val=64, test=64)
CONV = ConvCtc(width=8, blocks=1, kernel=3, hidden=8, dropout=0.1, input_dropout=0.0)


def signing(task=Sign, model=CONV) -> Experiment:
    return changed(get_config(), name="signs", data=SIGNS, task=task(model=model))


def affect(task=Affect, model=None, data=USERS, **options) -> Experiment:
    return Experiment(name="users", data=data, task=task(model=model or AffectMlp(hidden=8), **options))


def heights() -> Experiment:
    return Experiment(name="codes", data=CODES, task=MHeight(model=LearnedSweep()))


@functools.cache
def healthy(kind: str):
    experiment = {"signs": signing, "users": affect, "codes": heights}[kind]()
    return experiment, experiment.task.corpus(experiment.data)


def with_split(corpus, split: str, **arrays):
    """The corpus with these arrays in the first bucket of a split."""
    part = corpus.splits[split]
    bucket = dataclasses.replace(part.buckets[0], **arrays)
    other = Split(buckets=(bucket, *part.buckets[1:]), names=part.names, speakers=part.speakers)
    return dataclasses.replace(corpus, splits={**corpus.splits, split: other})


# Signing


def landmarks(change):
    def plant():
        experiment, corpus = healthy("signs")
        moved = change(corpus.splits["train"].buckets[0].landmarks_BTVC.copy())
        return Probe(experiment, with_split(corpus, "train", landmarks_BTVC=moved))

    return plant


def at_a_fixed_place(landmarks_BTVC):
    landmarks_BTVC[:, ::5, RIGHT_HAND.points] = 1e-3
    return landmarks_BTVC


def other_task(task):
    return lambda: Probe(signing(task), healthy("signs")[1])


def pooled():
    experiment, corpus = healthy("signs")
    probe = Probe(experiment, corpus)
    whole = probe.model

    def apply(params, state, batch, key):
        outputs, state = whole.apply(params, state, batch, key)
        mean_BTK = jnp.broadcast_to(outputs.tokens_BTK.mean(axis=1, keepdims=True), outputs.tokens_BTK.shape)
        return outputs._replace(tokens_BTK=mean_BTK), state

    probe.__dict__["model"] = Model(whole.init, apply)
    return probe


def one_way():
    experiment, corpus = healthy("signs")
    target = corpus.splits["train"].buckets[0].target
    tokens = target.tokens
    shifted_BN = np.where(tokens.tokens_BN, tokens.labels_BN % (len(corpus.spec.vocabulary) - 1) + 1, 0)
    shifted = dataclasses.replace(target, tokens=dataclasses.replace(tokens, labels_BN=shifted_BN))
    return Probe(experiment, with_split(corpus, "train", target=shifted))


def frames(corpus, kept: int):
    frames_BT = corpus.splits["train"].buckets[0].frames_BT
    return with_split(corpus, "train", frames_BT=frames_BT & (np.arange(frames_BT.shape[1]) < kept)[None])


def steps(corpus, **options):
    return Probe(signing(model=MobileNet1d(temporal_hidden=4, **options)), corpus)


class PaddedTeacher(Sign):
    """Learns from a teacher (who knows nothing) over all steps, and divides by their number."""

    def metrics(self, outputs, batch, *, train):
        means = super().metrics(outputs, batch, train=train)
        kl_B = -jax.nn.log_softmax(outputs.tokens_BTK, axis=-1).mean(axis=(1, 2))
        return {**means, "loss": Mean(means["loss"].value + kl_B.mean(), jnp.ones(()))} if train else means


class MaskedTeacher(Sign):
    """Leaves padding out, and divides by the padded length all the same."""

    def metrics(self, outputs, batch, *, train):
        means = super().metrics(outputs, batch, train=train)
        kl_BT = -jax.nn.log_softmax(outputs.tokens_BTK, axis=-1).mean(axis=2)
        kl = jnp.where(batch.frames_BT, kl_BT, 0).mean()
        return {**means, "loss": Mean(means["loss"].value + kl, jnp.ones(()))} if train else means


class HalfPrecision(Sign):
    def metrics(self, outputs, batch, *, train):
        means = super().metrics(outputs, batch, train=train)
        return {
            **means,
            "loss": Mean(means["loss"].total.astype(jnp.float16), means["loss"].weight.astype(jnp.float16)),
        }


# Users


def other_row():
    """The index of users, built anew for validation."""
    experiment, corpus = healthy("users")
    rows_N = corpus.splits["val"].buckets[0].user_B
    return Probe(experiment, with_split(corpus, "val", user_B=np.where(rows_N == 0, 1, rows_N)))


def leaking(change):
    """Corpora made with `change(features_ND, labels_N2)` in place of the causal features."""

    def plant():
        def features(entries, scale):
            labels_N2 = np.array([entry.labels for entry in entries], np.float32)
            return change(causal_features(entries, scale), labels_N2)

        experiment = affect()
        probe = Probe(experiment, load_with(features, experiment.data))
        probe.__dict__["leaky"] = features
        return probe

    return plant


def load_with(features, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "causal_features", features)
        return load_texts(data)


def mean_of_all(features_ND, labels_N2):
    features_ND[:, -2] = labels_N2[:, 0].mean()
    return features_ND


def next_label(features_ND, labels_N2):
    features_ND[:-1, 0] = labels_N2[1:, 0]
    return features_ND


class UnbiasedVariance(Affect):
    """A CCC whose covariance is divided by N and whose variances by N - 1."""

    def metrics(self, outputs, batch, *, train):
        x_B, y_B = outputs[:, 0], batch.target[:, 0]
        n = batch.examples_B.sum()

        def moment(a_B, b_B, by):
            mean_a, mean_b = ((batch.examples_B * v_B).sum() / n for v_B in (a_B, b_B))
            return (batch.examples_B * (a_B - mean_a) * (b_B - mean_b)).sum() / by

        spread = moment(x_B, x_B, n - 1) + moment(y_B, y_B, n - 1)
        means = super().metrics(outputs, batch, train=train)
        return {**means, "valence_ccc": Mean(2 * moment(x_B, y_B, n) / spread, jnp.ones(()))}


def future_in_training():
    """Validation and training exchanged: what is held out comes first."""
    experiment = affect(data=dataclasses.replace(USERS, held_out="later"))
    corpus = load_texts(experiment.data)
    splits = {**corpus.splits, "train": corpus.splits["val"], "val": corpus.splits["train"]}
    return Probe(experiment, dataclasses.replace(corpus, splits=splits))


def shared_users():
    """Splits by time where the config promises new users."""
    data = dataclasses.replace(USERS, held_out="users")
    return Probe(affect(data=data), load_texts(dataclasses.replace(USERS, held_out="later")))


def untrained_stranger():
    model = AffectLstm(user=4, hidden=4)
    return Probe(affect(model=model, user_dropout=0.0), healthy("users")[1])


# Codes


def codes(split, **change):
    def plant():
        experiment, corpus = healthy("codes")
        batch = corpus.splits[split].buckets[0]
        arrays = {name: function(batch) for name, function in change.items()}
        return Probe(experiment, with_split(corpus, split, **arrays))

    return plant


def noisy(batch):
    """Every fifth matrix a little other than when it was labelled."""
    rng, entries_BD = np.random.default_rng(0), batch.entries_BD.copy()
    entries_BD[::5] *= 1 + 0.05 * rng.normal(size=entries_BD[::5].shape).astype(np.float32)
    return entries_BD


def oversampled():
    """The rows of hard groups several times, before the split."""
    experiment, corpus = healthy("codes")
    val = corpus.splits["val"].buckets[0]
    entries_BD = corpus.splits["test"].buckets[0].entries_BD.copy()
    entries_BD[:20] = val.entries_BD[:20]
    return Probe(experiment, with_split(corpus, "test", entries_BD=entries_BD))


def same_data():
    """Two data sets that are one."""
    experiment, corpus = healthy("codes")
    splits = {**corpus.splits, "test": dataclasses.replace(corpus.splits["val"], names=corpus.splits["test"].names)}
    return Probe(experiment, dataclasses.replace(corpus, splits=splits))


PLANTED = {
    "signs: a clip pooled to one step": (pooled, check_use, "use.time"),
    "signs: a vocabulary of one way": (one_way, check_labels, "labels.vocabulary"),
    "signs: parts in another order on disk": (
        landmarks(lambda x: x[:, :, [*POSE.ids, *LEFT_HAND.ids, *RIGHT_HAND.ids, *FACE.ids]]),
        check_signs,
        "signs.order",
    ),
    "signs: left and right hand exchanged": (
        landmarks(lambda x: x[:, :, [*POSE.ids, *FACE.ids, *RIGHT_HAND.ids, *LEFT_HAND.ids]]),
        check_signs,
        "signs.order",
    ),
    "signs: steps between that only add blanks": (lambda: steps(healthy("signs")[1]), check_signs, "signs.steps"),
    "signs: a missing hand at a fixed place": (landmarks(at_a_fixed_place), check_signs, "signs.jumps"),
    "signs: a teacher's divergence that counts padding": (other_task(PaddedTeacher), check_use, "use.padding.loss"),
    "signs: a teacher's divergence by the padded length": (other_task(MaskedTeacher), check_use, "use.padding.loss"),
    "signs: CTC in half precision": (other_task(HalfPrecision), check_use, "use.gradients.finite"),
    "signs: targets longer than inputs": (
        lambda: Probe(signing(), frames(healthy("signs")[1], 1)),
        check_labels,
        "labels.targets_fit",
    ),
    "users: a stranger with another user's row": (other_row, check_texts, "texts.users"),
    "users: a row for strangers that is never trained": (untrained_stranger, check_texts, "texts.users"),
    "users: a mean over all of a user's entries": (leaking(mean_of_all), check_texts, "leaks.labels"),
    "users: the label of the next entry": (leaking(next_label), check_texts, "leaks.labels"),
    "users: a CCC of two kinds of variance": (
        lambda: Probe(affect(UnbiasedVariance), healthy("users")[1]),
        check_labels,
        "labels.logged",
    ),
    "users: their future in training": (future_in_training, check_texts, "leaks.order"),
    "users: rows of one user on both sides": (shared_users, check_leaks, "leaks.speakers"),
    "codes: labels kept after the matrix changed": (codes("val", entries_BD=noisy), check_codes, "codes.labels"),
    "codes: oversampling before the split": (oversampled, check_leaks, "leaks.content"),
    "codes: infinite heights with a number": (
        codes("val", weight_BG=lambda batch: np.ones_like(batch.weight_BG)),
        check_codes,
        "codes.labels",
    ),
    "codes: the same codes in two data sets": (same_data, check_leaks, "leaks.content"),
    "codes: a plain mean over unbalanced groups": (
        codes("val", weight_BG=lambda batch: (batch.weight_BG > 0).astype(np.float32)),
        check_codes,
        "codes.groups",
    ),
}
DIAGNOSED = {
    "words: stopped early on accuracy while still improving": "stopped_improving",
    "any: a score without its floor": "at_floor",
    "users: an arousal error above that of the mean": "at_floor",
}
"""By `jaxlip doctor`, in test_doctor.py."""


@pytest.mark.parametrize("defect", PLANTED)
def test_defects_are_named(defect, monkeypatch):
    plant, group, expected = PLANTED[defect]
    probe = plant()
    if "leaky" in probe.__dict__:
        monkeypatch.setattr(texts, "causal_features", probe.__dict__["leaky"])
    assert verdict(group, probe, expected) != "pass"


@pytest.mark.parametrize("kind", ["signs", "users", "codes"])
def test_healthy_experiments_pass(kind):
    found = list(preflight(*healthy(kind)))
    assert [check for check in found if check.verdict != "pass"] == []


def test_perfect_answers_are_perfect_without_what_is_not_lexical():
    """Whose scores have other names."""
    experiment = changed(signing(), data={"lexical_only": True})
    found = list(check_labels(Probe(experiment, experiment.task.corpus(experiment.data))))
    assert "greedy/wer_lexical" in next(check.saw for check in found if check.name == "labels.metrics")
    assert {check.verdict for check in found} == {"pass"}


def test_steps_between_pass_where_targets_need_them_or_nobody_makes_them():
    corpus = healthy("signs")[1]
    assert verdict(check_signs, steps(corpus, upsample=False), "signs.steps") == "pass"
    assert verdict(check_signs, steps(frames(corpus, 5)), "signs.steps") == "pass"


def test_every_planted_defect_is_in_the_docs():
    page = (pathlib.Path(__file__).parents[1] / "docs/preflight.md").read_text()
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \|$", page, re.MULTILINE)
    planted = {defect: expected for defect, (_, _, expected) in (ARRAYS | PLANTED).items()}
    assert dict(rows) == planted | NAMED | DIAGNOSED


OF_THEIR_OWN_DATA = ("grid_ctc", "grid_ctc_best", "grid_words", "words_best", "spelling_best", "spelling_student")
"""Configs that need a corpus that is not built in."""
KNOWN = {
    "sign_ctc": {"signs.steps", "capacity.parameters"},
    "sign_teacher": {"capacity.parameters"},
    "v1": {"capacity.parameters"},
}
"""What is true of them: the student keeps the steps that its authors gave it, and three are too large for what is built
in."""
CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
SHIPPED = [path.stem for path in sorted(CONFIGS.glob("*.py")) if path.stem not in OF_THEIR_OWN_DATA]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_pass(name):
    experiment = load_config(CONFIGS / f"{name}.py")
    task = getattr(experiment.task, "plain", experiment.task)
    experiment = dataclasses.replace(experiment, task=task, init_from=None)
    found = list(preflight(experiment, task.corpus(experiment.data)))
    assert {check.name for check in found if check.verdict != "pass"} == KNOWN.get(name, set())
