"""Preflight: silent on healthy experiments, and each planted defect is named by the check that is there for it."""

import dataclasses
import functools
import gc
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import changed, get_config, get_sentences

from jaxlip.cli import preflight as command
from jaxlip.cli import train
from jaxlip.cli.main import guarded
from jaxlip.data.batches import Split
from jaxlip.engine.lr_range import LrRange
from jaxlip.models.base import Model
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.preflight.capacity import check_capacity
from jaxlip.preflight.faces import check_faces
from jaxlip.preflight.inputs import check_inputs
from jaxlip.preflight.labels import check_labels
from jaxlip.preflight.leaks import check_leaks
from jaxlip.preflight.probe import Probe
from jaxlip.preflight.run import PreflightFailed, preflight
from jaxlip.preflight.use import check_use
from jaxlip.tasks.word import Word

CONFIG = str(pathlib.Path(__file__).with_name("tiny.py"))


@functools.cache
def healthy(kind):
    experiment = {"word": get_config, "sentence": get_sentences}[kind]()
    return experiment, experiment.task.corpus(experiment.data)


def with_arrays(corpus, change, splits=("train", "val", "test")):
    """The corpus with `change(bucket)` instead of each bucket of these splits."""
    parts = {
        name: Split(buckets=tuple(map(change, part.buckets)), names=part.names) if name in splits else part
        for name, part in corpus.splits.items()
    }
    return dataclasses.replace(corpus, splits=parts)


def landmarks(change, splits=("train", "val", "test")):
    """A defect of the landmarks: `change(landmarks_BTVC)`, on a copy."""

    def plant(experiment, corpus):
        def replace(bucket):
            return dataclasses.replace(bucket, landmarks_BTVC=change(bucket.landmarks_BTVC.copy()))

        return experiment, with_arrays(corpus, replace, splits)

    return plant


def field(name, change, splits=("train", "val", "test")):
    def plant(experiment, corpus):
        return experiment, with_arrays(
            corpus, lambda bucket: dataclasses.replace(bucket, **{name: change(getattr(bucket, name).copy())}), splits
        )

    return plant


def put(array, index, value):
    array[index] = value
    return array


def min_max(landmarks_BTVC):
    low, high = landmarks_BTVC.min(axis=2, keepdims=True), landmarks_BTVC.max(axis=2, keepdims=True)
    return (landmarks_BTVC - low) / np.maximum(high - low, 1e-9)


def smoothed_twice(landmarks_BTVC, alpha=0.1):
    for _ in range(2):
        for t in range(1, landmarks_BTVC.shape[1]):
            landmarks_BTVC[:, t] = alpha * landmarks_BTVC[:, t] + (1 - alpha) * landmarks_BTVC[:, t - 1]
    return landmarks_BTVC


def ids_as_rows(landmarks_BTVC):
    """Row numbers clamped to the array, as an array library without bound checks takes ids for rows."""
    rows = np.minimum(np.arange(landmarks_BTVC.shape[2]) * 9, landmarks_BTVC.shape[2] - 1)
    return landmarks_BTVC[:, :, rows]


def index_neighbours(experiment, corpus):
    nodes = len(corpus.spec.topology.ids)
    edges = tuple((v, w) for v in range(nodes) for w in range(v + 1, min(v + 6, nodes)))
    ids = tuple(np.random.default_rng(0).permutation(corpus.spec.topology.ids).tolist())
    topology = dataclasses.replace(corpus.spec.topology, ids=ids, edges=edges)
    return experiment, dataclasses.replace(corpus, spec=dataclasses.replace(corpus.spec, topology=topology))


def other_preset(experiment, corpus):
    face_input = dataclasses.replace(corpus.spec.input, ids=corpus.spec.input.ids[::-1])
    return experiment, dataclasses.replace(corpus, spec=dataclasses.replace(corpus.spec, input=face_input))


def copied(experiment, corpus, noise=0.0, rename=True):
    """Training examples in the validation split, as they are after oversampling before the split."""
    train, val = corpus.splits["train"], corpus.splits["val"]
    rng = np.random.default_rng(0)
    take = train.take(0, np.arange(len(val.names[0])))
    moved = take.landmarks_BTVC + noise * rng.normal(size=take.landmarks_BTVC.shape).astype(np.float32)
    names = tuple(f"new{n}" if rename else train.names[0][n] for n in range(len(val.names[0])))
    leaking = Split(buckets=(dataclasses.replace(take, landmarks_BTVC=moved),), names=(names,))
    return experiment, dataclasses.replace(corpus, splits={**corpus.splits, "val": leaking})


def beyond_classes(experiment, corpus):
    spec = dataclasses.replace(corpus.spec, classes=corpus.spec.classes[:-1])
    return experiment, dataclasses.replace(corpus, spec=spec)


def one_way_vocabulary(experiment, corpus):
    """Tokens whose ids are all one further on the way in than on the way back."""

    def replace(bucket):
        tokens = bucket.target.tokens
        labels_BN = np.where(tokens.tokens_BN, tokens.labels_BN % (len(corpus.spec.vocabulary) - 1) + 1, 0)
        target = dataclasses.replace(bucket.target, tokens=dataclasses.replace(tokens, labels_BN=labels_BN))
        return dataclasses.replace(bucket, target=target)

    return experiment, with_arrays(corpus, replace)


def too_short(experiment, corpus):
    def replace(bucket):
        return dataclasses.replace(bucket, frames_BT=bucket.frames_BT & (np.arange(75) < 4)[None])

    return experiment, with_arrays(corpus, replace)


ARRAYS = {
    "NaN in one training clip": ("word", landmarks(lambda a: put(a, (3, 5), np.nan), ("train",)), "inputs.finite"),
    "infinity in a test clip": ("word", landmarks(lambda a: put(a, (0, 0, 0), np.inf), ("test",)), "inputs.finite"),
    "one clip in pixels": ("word", landmarks(lambda a: put(a, 7, a[7] * 640)), "inputs.scale"),
    "a mask that is always False": ("word", field("speech_BT", lambda a: a & False), "inputs.mask.speech_BT"),
    "clips without frames": ("word", field("frames_BT", lambda a: put(a, slice(0, 4), False)), "inputs.mask.frames_BT"),
    "clips without a face": ("word", field("detected_BT", lambda a: put(a, 2, False)), "faces.detected"),
    "ids taken for rows": ("word", landmarks(ids_as_rows), "faces.landmarks"),
    "a still face": ("word", landmarks(lambda a: a * 0 + a[:, :1]), "faces.features"),
    "an anchor that is a lip": ("word", landmarks(lambda a: a - a[:, :, :1]), "faces.landmarks"),
    "min-max of every frame": ("word", landmarks(min_max), "faces.shape"),
    "smoothing, reversed and twice": ("word", landmarks(smoothed_twice), "faces.motion"),
    "two slots that are one": ("word", landmarks(lambda a: put(a, (..., 2), a[..., 0])), "faces.twins"),
    "neighbours in the list of ids": ("word", index_neighbours, "faces.edges"),
    "data of another preset": ("word", other_preset, "faces.topology"),
    "a class that is never trained": (
        "word",
        field("target", lambda a: np.maximum(a, 1), ("train",)),
        "labels.classes",
    ),
    "one class alone": ("word", field("target", lambda a: a * 0), "labels.classes"),
    "labels beyond the classes": ("word", beyond_classes, "labels.classes"),
    "a vocabulary of one way": ("sentence", one_way_vocabulary, "labels.vocabulary"),
    "targets longer than inputs": ("sentence", too_short, "labels.targets_fit"),
    "oversampling before the split": ("word", copied, "leaks.content"),
    "a clip in two splits": ("word", functools.partial(copied, noise=1e-6, rename=False), "leaks.clips"),
    "augmented copies across splits": ("word", functools.partial(copied, noise=1e-3), "leaks.near_copies"),
}


def half_known_speakers(experiment, corpus):
    """Two training speakers in validation, among others."""
    val, trained = corpus.splits["val"], corpus.splits["train"].speakers[0]
    mixed = dataclasses.replace(val, speakers=((*trained[:2], *val.speakers[0][2:]),))
    return experiment, dataclasses.replace(corpus, splits={**corpus.splits, "val": mixed})


class EvenOdds(Word):
    """Scores beside the floor of guessing among equally frequent classes."""

    def score(self, outputs, split, train, spec):
        scores = super().score(outputs, split, train, spec)
        floored = {n: dataclasses.replace(s, floor=0.5 / len(spec.classes)) for n, s in scores.scores.items()}
        return dataclasses.replace(scores, scores=floored)


class NextClass(Word):
    """Takes logits to begin one class later than they do."""

    def score(self, outputs, split, train, spec):
        return super().score([np.roll(part, 1, axis=-1) for part in outputs], split, train, spec)


def other_task(task):
    return lambda experiment, corpus: (dataclasses.replace(experiment, task=task(model=experiment.task.model)), corpus)


ARRAYS |= {
    "known and new speakers mixed": ("word", half_known_speakers, "leaks.speakers"),
    "a floor of even odds": ("word", other_task(EvenOdds), "labels.floor"),
    "answers read as the next class": ("word", other_task(NextClass), "labels.metrics"),
}


def broken(corpus):
    return ARRAYS["NaN in one training clip"][1](None, corpus)[1]


GROUPS = {"inputs": check_inputs, "faces": check_faces, "labels": check_labels, "leaks": check_leaks}


def verdict(group, probe, expected):
    """That of the first check of this name; what comes after it is not waited for."""
    with np.errstate(invalid="ignore"):
        return next(check.verdict for check in group(probe) if check.name == expected)


@pytest.mark.parametrize("defect", ARRAYS)
def test_defects_of_data_are_named(defect):
    kind, plant, expected = ARRAYS[defect]
    experiment, corpus = plant(*healthy(kind))
    assert verdict(GROUPS[expected.split(".")[0]], Probe(experiment, corpus), expected) != "pass"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Damaged(GraphLstm):
    """A word model with something wrong: `damage(module, batch, key)` instead of its call."""

    damage: str = ""

    def build(self, spec) -> Model:
        whole = GraphLstm.build(self, spec)
        return Model(whole.init, functools.partial(DAMAGE[self.damage], whole))


def ignore_mask(whole, params, state, batch, key):
    return whole.apply(params, state, dataclasses.replace(batch, speech_BT=batch.frames_BT), key)


def cut_off(whole, params, state, batch, key):
    landmarks_BTVC = jax.lax.stop_gradient(batch.landmarks_BTVC)
    return whole.apply(params, state, dataclasses.replace(batch, landmarks_BTVC=landmarks_BTVC), key)


def average_padding(whole, params, state, batch, key):
    seen = jnp.ones_like(batch.frames_BT)
    return whole.apply(params, state, dataclasses.replace(batch, frames_BT=seen), key)


def peek_at_mates(whole, params, state, batch, key):
    outputs, after = whole.apply(params, state, batch, key)
    return outputs - outputs.mean(axis=0, keepdims=True), after


def always_training(whole, params, state, batch, key):
    return whole.apply(params, state, batch, jax.random.key(0) if key is None else key)


def still(whole, params, state, batch, key):
    mean = batch.landmarks_BTVC.mean(axis=1, keepdims=True) + 0 * batch.landmarks_BTVC
    same = dataclasses.replace(batch, landmarks_BTVC=mean, speech_BT=batch.frames_BT)
    return whole.apply(params, state, same, key)


def idle_branch(whole, params, state, batch, key):
    cut = {n: jax.lax.stop_gradient(p) if n.startswith("lstm.") else p for n, p in params.items()}
    return whole.apply(cut, state, batch, key)


def looped(whole, params, state, batch, key):
    outputs, after = whole.apply(params, state, batch, key)
    size_B = outputs[:, 0] * 0
    for t in range(batch.landmarks_BTVC.shape[1]):
        size_B = jnp.maximum(size_B, batch.landmarks_BTVC[:, t].sum(axis=(1, 2)))
    return outputs + 1e-3 * size_B[:, None], after


def half_precision(whole, params, state, batch, key):
    outputs, after = whole.apply(params, state, batch, key)
    return (outputs.astype(jnp.float16) * 6e4 * 6e4).astype(jnp.float32), after


DAMAGE = {
    "the speech mask is ignored": ignore_mask,
    "no gradient reaches the input": cut_off,
    "padding is averaged": average_padding,
    "batch-mates are looked at": peek_at_mates,
    "dropout is never off": always_training,
    "a still picture is enough": still,
    "a branch is not trained": idle_branch,
    "a loop over frames in Python": looped,
    "float16 overflows": half_precision,
}
NAMED = {
    "the speech mask is ignored": "use.speech_BT",
    "no gradient reaches the input": "use.gradients.inputs",
    "padding is averaged": "use.padding.frames_BT",
    "batch-mates are looked at": "use.batch_mates",
    "dropout is never off": "use.inference",
    "a still picture is enough": "use.time",
    "a branch is not trained": "use.gradients",
    "a loop over frames in Python": "use.loops",
    "float16 overflows": "use.gradients.finite",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_defects_of_models_are_named(damage):
    experiment, corpus = healthy("word")
    model = Damaged(hidden=4, graph_layers=1, lstm_layers=1, dropout=0.2, damage=damage)
    damaged = dataclasses.replace(experiment, task=dataclasses.replace(experiment.task, model=model))
    assert verdict(check_use, Probe(damaged, corpus), NAMED[damage]) != "pass"


def test_a_run_is_stopped_before_its_folder_is_made(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "preflight", lambda experiment, corpus: check_inputs(Probe(experiment, broken(corpus))))
    with pytest.raises(PreflightFailed, match=r"inputs\.finite"):
        train.run(["--config", CONFIG, "--runs", str(tmp_path)])
    said = capsys.readouterr().out
    assert "fail  inputs.finite" in said and "pass " not in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["word", "sentence"])
def test_healthy_experiments_pass_and_nothing_stays(kind):
    experiment, corpus = healthy(kind)
    gc.collect()
    before = len(jax.live_arrays())
    found = list(preflight(experiment, corpus))
    gc.collect()
    assert {check.verdict for check in found} == {"pass"}, [check for check in found if check.verdict != "pass"]
    assert len(found) > 25
    assert len(jax.live_arrays()) <= before


def test_capacity_says_what_a_run_costs():
    experiment, corpus = healthy("word")
    found = {check.name: check for check in check_capacity(Probe(experiment, corpus))}
    assert "for 44 training examples" in found["capacity.parameters"].saw
    assert found["capacity.steps"].saw.startswith("6 steps an epoch, 4 epochs")
    endless = changed(experiment, optim={"warmup_epochs": 9.0})
    assert list(check_capacity(Probe(endless, corpus)))[1].verdict == "warn"


def test_the_command_prints_what_it_saw_and_fails(capsys, monkeypatch):
    monkeypatch.setattr(command, "preflight", lambda experiment, corpus: check_inputs(Probe(experiment, corpus)))
    command.run(["--config", CONFIG])
    assert "pass  inputs.finite" in (said := capsys.readouterr().out) and "4 passed, 0 warned, 0 failed in " in said
    monkeypatch.setattr(
        command, "preflight", lambda experiment, corpus: check_inputs(Probe(experiment, broken(corpus)))
    )
    with pytest.raises(PreflightFailed, match=r"inputs\.finite"):
        command.run(["--config", CONFIG, "--json"])
    first = json.loads(capsys.readouterr().out)[0]
    assert first["verdict"] == "fail" and first["saw"].startswith("1 of 68 examples hold NaN")


def test_the_learning_rate_is_probed_and_drawn(capsys, tmp_path, monkeypatch):
    """Of a loss that falls the faster the higher the rate until it diverges; nothing of the probe is kept."""
    monkeypatch.setattr(command, "preflight", lambda experiment, corpus: iter(()))
    picture = tmp_path / "lr.png"
    for bad in (tmp_path / "nowhere/lr.png", tmp_path / "lr.xyz"):
        assert guarded(command.run, ["--config", CONFIG, "--lr-range", str(bad)]) == 2
        assert "cannot be drawn" in capsys.readouterr().err
    command.run(["--config", CONFIG, "--lr-range", str(picture), "--optim.lr", "1e-8"])
    said = capsys.readouterr().out
    assert "warn  rate.range" in said and "low: try --optim.lr" in said
    assert picture.stat().st_size > 5_000 and list(tmp_path.iterdir()) == [picture]
    rates_S = np.geomspace(1e-6, 1, 60)
    falling = LrRange(rates_S=rates_S, losses_S=3 - 2 / (1 + (1e-3 / rates_S) ** 2) + 50 * rates_S**1.5)
    assert 3e-4 < falling.steepest < 1e-2 and falling.steepest <= falling.lowest < 0.05
