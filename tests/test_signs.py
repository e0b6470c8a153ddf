"""Signing: sources, what is left out and said of it, training, and defects of the original that must not come back."""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import changed, get_config
from trees import phoenix_tree

from jaxlip.cli import evaluate, size, teach, train
from jaxlip.cli.main import guarded
from jaxlip.data.batches import Split
from jaxlip.data.face import Rejections
from jaxlip.data.signs import AS_WRITTEN, SignData, sign_clips
from jaxlip.data.sources import SIGN_SOURCES
from jaxlip.data.sources.fingerspelling import Fingerspelling
from jaxlip.data.sources.glosses import Glosses
from jaxlip.data.vocab import Vocabulary
from jaxlip.engine.loop import Trainer
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.holistic.augment import SignAugment
from jaxlip.losses.distillation import divergence
from jaxlip.models.conv_ctc import ConvCtc
from jaxlip.models.mobilenet1d import MobileNet1d
from jaxlip.report.weights import int8
from jaxlip.tasks.distilled import Distilled
from jaxlip.tasks.sign import Sign

CONV = ConvCtc(width=16, blocks=2, kernel=5, hidden=16, dropout=0.1, input_dropout=0.0)
FEW = Glosses(glosses=6, longest=3, train=16, val=6, test=6)
DATA = SignData(features="two_hands", glosses=FEW, buckets=(80,))


def experiment(model=CONV, data=DATA, **task):
    return changed(get_config(), name="sign", data=data, task=Sign(model=model, **task), train={"epochs": 1})


@pytest.fixture(scope="module")
def corpus():
    return experiment().task.corpus(DATA)


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory):
    root = tmp_path_factory.mktemp("phoenix")
    phoenix_tree(root, FEW)
    return root


def on(root, **changes):
    return SignData(source="phoenix", root=str(root), features="two_hands", buckets=(80,), **changes)


def answer(model, params, state, batch):
    return jax.jit(lambda *inputs: model.apply(*inputs, None)[0])(params, state, batch)


def said(batch, spec, row=0):
    tokens = batch.target.tokens
    return spec.vocabulary.decode(tokens.labels_BN[row][tokens.tokens_BN[row]])


def test_phoenix_reads_as_the_corpus_it_was_written_from(phoenix, corpus):
    read = experiment().task.corpus(on(phoenix))
    assert {name: len(split) for name, split in read.splits.items()} == {"train": 16, "val": 6, "test": 6}
    a, b = corpus.splits["train"].buckets[0], read.splits["train"].buckets[0]
    np.testing.assert_allclose(a.landmarks_BTVC, b.landmarks_BTVC, atol=1e-6)
    assert said(a, corpus.spec, 3) == said(b, read.spec, 3)
    times = {}
    for line in (phoenix / "train.SI5.corpus.csv").read_text().splitlines()[1:]:
        for gloss in line.split("|")[3].split():
            times[gloss] = times.get(gloss, 0) + 1
    tokens = read.spec.vocabulary.tokens
    assert [times[t] for t in tokens] == sorted(times.values(), reverse=True)
    seen = experiment().task.shape_spec(on(phoenix, order="first_seen")).vocabulary.tokens
    assert seen == tuple(times)


def edited(phoenix, tmp_path, table, edit):
    root = tmp_path / "copy"
    shutil.copytree(phoenix, root)
    path = root / f"{table}.SI5.corpus.csv"
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")
    return root


def test_missing_folders_empty_annotations_and_unknown_glosses_are_told_by_line(phoenix, tmp_path):
    def edit(lines):
        lines[2] = lines[2].rpartition("|")[0] + "|"
        lines[3] = lines[3].rpartition("|")[0] + "|GLOSS01 loc-NORD"
        return lines

    root = edited(phoenix, tmp_path, "test", edit)
    gone = (root / "train.SI5.corpus.csv").read_text().splitlines()[4].split("|")[0]
    (root / f"landmarks/train/{gone}.npz").unlink()
    read = experiment().task.corpus(on(root))
    notes = "\n".join(read.notes)
    assert f"train.SI5.corpus.csv line 5: folder {gone}/1/*.png: there is no landmark file" in notes
    assert "test.SI5.corpus.csv line 3: the annotation is empty" in notes
    assert "test.SI5.corpus.csv line 4: gloss loc-NORD is not in the training table" in notes
    assert sum(read.counts["left_out"].values()) == 2 and len(read.splits["train"]) == 15
    assert "loc-NORD" not in read.spec.vocabulary.tokens and "loc-NORD" in read.spec.words.tokens


@pytest.mark.parametrize(
    "edit, what",
    [
        (lambda lines: ["id|folder|annotation", *lines[1:]], "line 1"),
        (lambda lines: [*lines, "a|b|c"], "line 18 does not have the 4 columns"),
        (lambda lines: [*lines, lines[1]], "line 18 has id 01April_2010_heute_0000 a second time"),
    ],
)
def test_tables_that_are_wrong_are_one_line(phoenix, tmp_path, edit, what):
    with pytest.raises(UserError, match=what):
        experiment().task.corpus(on(edited(phoenix, tmp_path, "train", edit)))


def test_folders_that_hold_no_phoenix_are_one_line(tmp_path, phoenix):
    with pytest.raises(UserError, match=r"no train\.SI5\.corpus\.csv"):
        experiment().task.corpus(on(tmp_path))
    with pytest.raises(UserError, match="none of the 28 clips has landmarks"):
        experiment().task.corpus(on(phoenix, landmarks=str(tmp_path)))


def test_what_is_not_lexical_is_left_out_on_request_and_scores_say_so(phoenix, tmp_path):
    marks = "__ON__ loc-NORD GLOSS01 IX GLOSS02 $GEST-OFF WG cl-X PLUSPLUS A qu-WAS poss-MEIN lh-Y rh-Z NICHTALP POS"
    root = edited(phoenix, tmp_path, "train", lambda lines: [*lines[:-1], lines[-1].rpartition("|")[0] + "|" + marks])
    whole, some = (experiment().task.corpus(on(root, lexical_only=flag)) for flag in (False, True))
    assert set(whole.spec.vocabulary.tokens) - set(some.spec.vocabulary.tokens) == set(marks.split()) - {
        "GLOSS01",
        "GLOSS02",
    }
    assert any("not lexical" in note for note in some.notes) and not any("not lexical" in note for note in whole.notes)
    task = experiment().task
    model = task.build(some.spec)
    params, state = model.init(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, some.splits["val"].buckets[0])
    outputs = [jax.tree.map(np.asarray, answer(model, params, state, batch))]
    scores = task.score(outputs, some.splits["val"], some.splits["train"], some.spec).scores
    assert "greedy/wer_lexical" in scores and all(name.endswith("_lexical") for name in scores)


def test_vocabulary_goes_both_ways_and_keeps_how_glosses_are_written():
    """Defect 2: a vocabulary that only encodes."""
    vocabulary = Vocabulary.of_words(["loc-NORD ABEND __ON__ über WIND++"], AS_WRITTEN, ordered=True)
    text = "WIND++ ABEND loc-NORD __ON__ über"
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.tokens[0] == "loc-NORD" and len(vocabulary) == 6


def letters(root: pathlib.Path) -> pathlib.Path:
    """Recordings of four letters in four blocks, as the real file has them."""
    rng = np.random.default_rng(0)
    y = np.repeat(list("abcz"), 40)
    X = rng.normal(0.5, 0.1, (160, 20, 126)).astype(np.float32)
    X[..., :63] = 0.0
    takes = np.tile(np.repeat(np.arange(4) * 30, 10), 4)
    np.savez(root / "letters.npz", X=X, y=y, seq=takes.astype(str))
    (root / "words.txt").write_text("abc cab zab b2 bazaar")
    return root


def test_fingerspelling_splits_by_recording_block_and_splices_with_interpolated_ways(tmp_path):
    root = letters(tmp_path)
    spelling = Fingerspelling(words=str(root / "words.txt"), train=12, val=4, test=4)
    data = SignData(source="fingerspelling", root=str(root), fingerspelling=spelling)
    source = SIGN_SOURCES["fingerspelling"]
    blocks = np.tile(np.repeat(np.arange(4), 10), 4)
    used = {split: set() for split in ("train", "val", "test")}
    for ref in source.find(data):
        used[ref.split] |= {int(blocks[take]) for take in ref.where[1]}
    assert used["train"] <= {0, 1} and used["val"] == {3} and used["test"] == {2}
    ref, clip = next(iter(source.read(data)))
    word = ref.where[0]
    assert word in ("abc", "cab", "zab", "bazaar") and set("abcz") >= set(word)
    low, high = (len(word) * hold + (len(word) - 1) * move for hold, move in ((6, 2), (12, 5)))
    assert low <= len(clip.landmarks) <= high and np.isnan(clip.landmarks[:, :21]).all()
    np.testing.assert_array_equal(clip.landmarks, source.load(data, ref).landmarks)
    isolated = dataclasses.replace(data, fingerspelling=dataclasses.replace(spelling, isolated=True))
    task = Sign(model=CONV, unit="characters")
    corpus = task.corpus(isolated)
    assert len(corpus.splits["train"]) == 80 and len(corpus.spec.slots[0][1]) == 26
    with pytest.raises(UserError, match="no word of the letters"):
        (root / "none.txt").write_text("42")
        bad = dataclasses.replace(spelling, words=str(root / "none.txt"))
        task.corpus(dataclasses.replace(data, fingerspelling=bad))


SMALL = ({}, dataclasses.replace(CONV, width=32, hidden=32, dropout=0.0), {"lr": 1e-2, "average": 0.0}, 60)
WHOLE = ({"features": "holistic6516"}, MobileNet1d(dropout=0.0), {"lr": 1e-3}, 120)


@pytest.mark.parametrize("data, model, optim, epochs", [SMALL, pytest.param(*WHOLE, marks=pytest.mark.slow)])
def test_eight_sentences_are_learned_by_heart(tmp_path, data, model, optim, epochs):
    """The second one is the student of 14 million parameters."""
    corpus = experiment().task.corpus(dataclasses.replace(DATA, **data))
    few = jax.tree.map(lambda array: array[:8], corpus.splits["train"].buckets[0])
    split = Split(buckets=(few,), names=(corpus.splits["train"].names[0][:8],))
    handful = dataclasses.replace(corpus, splits={"train": split, "val": split})
    config = changed(experiment(model, word_ctc=0.0, spans=0.0), optim=optim)
    config = changed(config, train={"epochs": epochs, "batch": 8, "eval_epochs": 30, "monitor": "token_error"})
    RunFolder(tmp_path / "run").create(overwrite=False)
    trainer = Trainer(config, RunFolder(tmp_path / "run"), handful)
    row = trainer.fit()
    trainer.checkpoints.close()
    assert row["val/token_error"] == 0.0


@pytest.mark.parametrize("upsample", [True, False])
def test_early_head_helps_and_learns_from_the_last(corpus, upsample):
    data = dataclasses.replace(DATA, features="holistic6516")
    model = MobileNet1d(temporal_hidden=8, early=True, upsample=upsample)
    plain, helped = Sign(model=model), Sign(model=model, early_ctc=0.5, agree=0.5)
    whole = plain.corpus(data)
    built = plain.build(whole.spec)
    params, state = built.init(jax.random.key(0))
    batch = jax.tree.map(lambda array: jnp.asarray(array[:3]), whole.splits["train"].buckets[0])
    outputs = answer(built, params, state, batch)
    a, b = (jax.jit(lambda out, task=task: task.metrics(out, batch, train=True))(outputs) for task in (plain, helped))
    steps_BT = outputs.real(batch.frames_BT)
    agree_B = divergence(outputs.tokens_BTK, outputs.early_BTK, steps_BT)
    expected = a["loss"].value + 0.5 * b["early_ctc"].value + 0.5 * agree_B.mean()
    np.testing.assert_allclose(b["loss"].value, expected, rtol=1e-5)
    last = jax.jit(jax.grad(lambda t: helped.metrics(outputs._replace(tokens_BTK=t), batch, train=True)["agree"].value))
    assert not np.asarray(last(outputs.tokens_BTK)).any()


def test_a_target_without_room_is_counted_and_masked_also_at_a_quarter_of_the_steps(corpus):
    """Defect 8: NaN or garbage where the target is longer than the input."""
    model = MobileNet1d(temporal_hidden=8, upsample=False)
    task = Sign(model=model)
    data = SignData(glosses=Glosses(glosses=6, train=8, val=4, test=2, longest=5), buckets=(128,))
    whole = task.corpus(data)
    few = whole.splits["train"].buckets[0]
    short = dataclasses.replace(few, frames_BT=few.frames_BT & (np.arange(128) < 5)[None])
    built = task.build(whole.spec)
    params, state = built.init(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, short)

    def loss(params):
        outputs, _ = built.apply(params, state, batch, jax.random.key(1))
        means = task.metrics(outputs, batch, train=True)
        return means["loss"].value, means

    (value, means), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    tokens = few.target.tokens.tokens_BN.sum(axis=1)
    assert float(means["infeasible"].total) >= (tokens > 2).sum() > 0
    assert np.isfinite(value) and all(np.isfinite(grad).all() for grad in grads.values())


def test_ctc_of_half_precision_logits_is_taken_in_single_precision(corpus):
    """Defect 7: CTC under fp16."""
    task = Sign(model=CONV, word_ctc=0.0, spans=0.0)
    built = task.build(corpus.spec)
    params, state = built.init(jax.random.key(0))
    batch = jax.tree.map(lambda array: jnp.asarray(array[:4]), corpus.splits["train"].buckets[0])
    outputs = answer(built, params, state, batch)
    half = outputs._replace(tokens_BTK=(20 * outputs.tokens_BTK).astype(jnp.float16))
    exact = outputs._replace(tokens_BTK=half.tokens_BTK.astype(jnp.float32))
    loss = jax.jit(lambda out: task.metrics(out, batch, train=True)["loss"].value)
    a, b = loss(half), loss(exact)
    assert a.dtype == jnp.float32 and float(a) == float(b)


def test_divergence_is_that_of_the_formula_over_real_frames_alone():
    """Defect 6: KL divided by the number of frames with the padding."""
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 3, 7, 5))
    real = np.arange(7)[None] < np.array([7, 4, 0])[:, None]

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    p, q = softmax(teacher / 3), softmax(student / 3)
    kl = (p * np.log(p / q)).sum(-1)
    expected = [9 * kl[b][real[b]].mean() if real[b].any() else 0.0 for b in range(3)]
    found = divergence(jnp.asarray(teacher), jnp.asarray(student), jnp.asarray(real), temperature=3.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    padding = np.where(real[..., None], student, 1e4)
    same = divergence(jnp.asarray(teacher), jnp.asarray(padding), jnp.asarray(real), temperature=3.0)
    np.testing.assert_allclose(same, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a trained run, "sign"."""
    folder = tmp_path_factory.mktemp("runs")
    config = experiment(spans=0.0, augment=SignAugment(warp=0.1, noise=0.001))
    train.fit(changed(config, train={"monitor": "token_error"}), folder, resume=False, overwrite=False)
    return folder


@pytest.mark.slow
def test_a_student_learns_from_a_run_and_is_evaluated_without_it(runs, tmp_path, capsys):
    soft = tmp_path / "soft"
    config = experiment(spans=0.0, augment=SignAugment(warp=0.1, noise=0.001))
    twice = ["--run", "sign", "--run", "sign", "--out", str(soft), "--runs", str(runs)]
    assert guarded(teach.run, twice) == 0, capsys.readouterr().err
    assert json.loads((soft / "manifest.json").read_text())["examples"] == 16
    task = Distilled(task=config.task, soft_targets=str(soft))
    student = dataclasses.replace(config, name="student", task=task)
    train.fit(student, runs, resume=False, overwrite=False)
    row = RunFolder(runs / "student").read_metrics()[-1]
    np.testing.assert_allclose(row["train/loss"], 0.3 * row["train/labels"] + 0.7 * row["train/teacher"], rtol=0.2)
    assert "val/teacher" not in row
    shutil.rmtree(soft)
    assert guarded(evaluate.run, ["--run", "student", "--runs", str(runs)]) == 0, capsys.readouterr().err
    other = dataclasses.replace(DATA, glosses=dataclasses.replace(FEW, seed=1))
    assert guarded(teach.run, twice) == 0
    with pytest.raises(UserError, match="made of other data"):
        task.corpus(other)
    with pytest.raises(UserError, match="jaxlip teach"):
        dataclasses.replace(task, soft_targets=str(tmp_path / "none")).corpus(DATA)


def test_the_built_in_corpus_is_the_same_every_time_and_loses_hands():
    data = SignData(glosses=dataclasses.replace(FEW, lost=0.3))
    a, b = (list(SIGN_SOURCES["glosses"].read(data))[3][1] for _ in range(2))
    np.testing.assert_array_equal(a.landmarks, b.landmarks)
    assert np.isnan(a.landmarks).any()
    none = Rejections()
    assert len(list(sign_clips(dataclasses.replace(data, buckets=(20,)), none))) == 0
    assert list(none.counts()) == ["longer than 20 frames, the longest of data.buckets"]


def test_weights_in_three_precisions_are_as_large_as_said_and_score_nearly_alike(runs, capsys):
    assert guarded(size.run, ["--run", "sign", "--runs", str(runs), "--json"]) == 0, capsys.readouterr().err
    rows = json.loads(capsys.readouterr().out)
    assert [row["weights"] for row in rows] == ["float32", "bfloat16", "int8"]
    assert rows[0]["MB"] == pytest.approx(4 * rows[0]["parameters"] / 2**20, abs=0.01)
    assert rows[1]["MB"] == pytest.approx(rows[0]["MB"] / 2, abs=0.01) and rows[2]["MB"] < 0.4 * rows[0]["MB"]
    assert all(abs(row["token_error"] - rows[0]["token_error"]) < 0.1 for row in rows)


def test_int8_weights_are_within_half_a_step_of_their_channel():
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(40, 6)) * [1, 2, 3, 4, 5, 6], jnp.float32)
    step = np.abs(weight).max(axis=0) / 127
    assert (np.abs(int8({"w": weight})["w"] - weight) <= 0.5001 * step).all()
