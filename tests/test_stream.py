"""Streamed training is resident training, bit for bit, also when it is stopped and resumed."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import QUICKLY_COMPILED, REPOSITORY
from tiny import changed, get_config
from trees import SENTENCES, csv_tree, lrs_tree, on

from jaxlip.cli import evaluate, prepare, train
from jaxlip.data.batches import epoch_plan, sequential_plan
from jaxlip.data.sentences import load_sentences
from jaxlip.data.sources.visemes import Visemes
from jaxlip.data.stream import StreamedSplit
from jaxlip.data.vocab import Vocabulary
from jaxlip.data.words import load_words
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.report.saved import load_saved

pytest.importorskip("tensorflow_datasets", reason="the extra `data` is absent")
pytest.importorskip("grain", reason="the extra `data` is absent")

TINY = str(pathlib.Path(__file__).with_name("tiny.py"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("stream")
    csv_tree(root / "own", Visemes(words=4, train=44, val=12, test=12))
    out = root / "shards"
    prepare.run(["--source", "manifest", "--root", str(root / "own"), "--out", str(out), "--preset", "lips40"])
    return out


def streamed(shards, **changes):
    return on("prepared", shards, resident_gib=0.0, **changes)


def assert_same_feed(a, b, plan) -> None:
    """Both feed the same examples of a plan, and say of the same rows that they are none."""
    feeds = (split.feed(lambda tree: tree).batches(plan) for split in (a, b))
    for (x, x_rows), (y, y_rows) in zip(*feeds, strict=True):
        assert x_rows.shape == y_rows.shape
        for left, right in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True):
            if left.dtype != bool or left.ndim > 1:
                np.testing.assert_array_equal(left[np.maximum(x_rows, 0)], right[np.maximum(y_rows, 0)])
        np.testing.assert_array_equal(
            x.examples_B[np.maximum(x_rows, 0)] & (x_rows >= 0), y.examples_B[np.maximum(y_rows, 0)] & (y_rows >= 0)
        )


def assert_same_corpus(a, b) -> None:
    assert a.fingerprint == b.fingerprint and a.counts == b.counts
    for split in a.splits:
        resident, stream = a.splits[split], b.splits[split]
        assert isinstance(stream, StreamedSplit) and not isinstance(resident, StreamedSplit)
        assert resident.names == stream.names
        order = epoch_plan(resident, batch=5, per_dispatch=3, seed=1, epoch=2)
        assert_same_feed(resident, stream, [(part.bucket, part.rows_KB) for part in order])
        assert_same_feed(resident, stream, sequential_plan(resident, batch=5))


def test_words_are_fed_alike(shards):
    a, b = load_words(on("prepared", shards)), load_words(streamed(shards))
    assert_same_corpus(a, b)
    assert dataclasses.asdict(a.spec) == dataclasses.asdict(b.spec)
    assert any("streamed from disk" in note for note in b.notes)


def test_a_plan_goes_on_anywhere_alike(shards):
    """What the engine does when it resumes: the rest of the same plan, from data that were opened anew."""

    def batches(done):
        split = load_words(streamed(shards)).splits["train"]
        plan = epoch_plan(split, batch=5, per_dispatch=2, seed=3, epoch=7)
        return list(split.feed(lambda tree: tree).batches([(part.bucket, part.rows_KB) for part in plan[done:]]))

    whole = batches(0)
    assert len(whole) > 4
    for done in (1, len(whole) - 1):
        for a, b in zip(whole[done:], batches(done), strict=True):
            jax.tree.map(np.testing.assert_array_equal, a, b)


def test_sentences_of_several_lengths_are_fed_alike_from_any_source(tmp_path):
    lrs_tree(tmp_path, dataclasses.replace(SENTENCES, train=20))

    def characters(words):
        return Vocabulary.of_characters([" ".join(words)])

    buckets = (40, 50, 60, 75)
    a, b = (load_sentences(on("lrs", tmp_path, buckets=buckets, resident_gib=gib), characters) for gib in (1.0, 0.0))
    assert len(a.splits["train"].buckets) > 1
    assert_same_corpus(a, b)


def test_what_fits_is_resident_and_what_does_not_is_streamed(shards):
    rows = sum(len(split) for split in load_words(on("prepared", shards)).splits.values())
    batch = load_words(on("prepared", shards)).splits["val"].buckets[0]
    needed = rows * batch.landmarks_BTVC[0].nbytes / 2**30
    kinds = [
        {type(split) is StreamedSplit for split in load_words(on("prepared", shards, resident_gib=gib)).splits.values()}
        for gib in (needed, needed * 0.999)
    ]
    assert kinds == [{False}, {True}]


def test_a_clip_that_is_gone_while_training_is_named(tmp_path):
    csv_tree(tmp_path)
    corpus = load_words(on("manifest", tmp_path, resident_gib=0.0))
    (tmp_path / "faces/003.npz").unlink()
    with pytest.raises(UserError, match="faces/003 could be read when training began.*no landmark file\\)\\.$"):
        list(corpus.splits["train"].feed(lambda tree: tree).batches(sequential_plan(corpus.splits["train"], batch=4)))


def test_without_grain_the_way_out_is_named(shards, monkeypatch):
    corpus = load_words(streamed(shards))
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(UserError, match="pip install 'jaxlip\\[data\\]'.*--data.resident_gib"):
        list(corpus.splits["val"].feed(lambda tree: tree).batches(sequential_plan(corpus.splits["val"], batch=4)))


# Runs


def state(folder):
    saved = load_saved(RunFolder(folder), "latest")
    return saved.step, jax.device_get((saved.state.params, saved.state.model_state, saved.state.opt))


def assert_equal_runs(a: pathlib.Path, b: pathlib.Path) -> None:
    assert RunFolder(a).read_metrics() == RunFolder(b).read_metrics()
    (step_a, leaves_a), (step_b, leaves_b) = ((s, jax.tree.leaves(tree)) for s, tree in (state(a), state(b)))
    assert step_a == step_b and len(leaves_a) == len(leaves_b) > 10
    for x, y in zip(leaves_a, leaves_b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_streamed_run_is_the_resident_run_bit_for_bit(shards, tmp_path, capsys):
    for name, config in [("resident", on("prepared", shards)), ("streamed", streamed(shards))]:
        experiment = changed(get_config(), name=name, data=config, train={"epochs": 3})
        train.fit(experiment, tmp_path, resume=False, overwrite=False)
    assert_equal_runs(tmp_path / "resident", tmp_path / "streamed")
    # The score does not depend on where landmarks lie either.
    scores = []
    for name in ("resident", "streamed"):
        evaluate.run(["--run", name, "--runs", str(tmp_path), "--json", str(tmp_path / "scores.json")])
        scores.append(json.loads((tmp_path / "scores.json").read_text())["scores"])
    assert scores[0] == scores[1]


def launch(shards, runs, name, *extra):
    command = [sys.executable, str(REPOSITORY / "train.py"), "--config", TINY, "--runs", str(runs), "--name", name]
    data = ["--data.source", "prepared", "--data.root", str(shards), "--data.resident_gib", "0", "--train.epochs", "20"]
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}", "XLA_FLAGS": QUICKLY_COMPILED}
    return subprocess.Popen(
        [*command, "--no-preflight", *data, *extra],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    finish(launch(shards, runs, "whole"))
    return runs / "whole"


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_streamed_run_resumes_to_the_uninterrupted_one(shards, whole, tmp_path, number):
    process = launch(shards, tmp_path, "stopped")
    while process.poll() is None and (RunFolder(tmp_path / "stopped").steps or [0])[-1] < 12:
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number)
    finish(launch(shards, tmp_path, "stopped", "--resume"))
    assert_equal_runs(whole, tmp_path / "stopped")
