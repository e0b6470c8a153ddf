"""Ensembles: mixtures against their definition, weights against a grid, and the command on runs that were trained."""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import changed, get_config, get_sentences

from jaxlip.cli import ensemble
from jaxlip.cli.main import guarded
from jaxlip.cli.train import fit
from jaxlip.data.batches import epoch_plan
from jaxlip.data.sentences import stack_tokens
from jaxlip.data.sources import visemes
from jaxlip.engine.run import RunFolder
from jaxlip.engine.step import take
from jaxlip.face.augment import Augment
from jaxlip.face.views import seen_as
from jaxlip.losses.ctc import ctc_loss
from jaxlip.models.conv_ctc import ConvCtc
from jaxlip.models.heads import SentenceLogits
from jaxlip.models.members import PerMember
from jaxlip.predict.reader import Reader
from jaxlip.report.ensemble import fit_weights, gather, surest
from jaxlip.report.saved import load_saved
from jaxlip.tasks.sentence import Sentence
from jaxlip.tasks.together import log_mean, read_together
from jaxlip.tasks.transcribe import Decoding, readers, transcribe


def test_weights_are_the_likeliest_of_a_grid():
    rng = np.random.default_rng(0)
    log_p_MN = np.log(rng.uniform(0.01, 1, (2, 40)))
    grid = np.linspace(0, 1, 1001)
    likelihood = [np.log(w * np.exp(log_p_MN[0]) + (1 - w) * np.exp(log_p_MN[1])).sum() for w in grid]
    assert fit_weights(log_p_MN)[0] == pytest.approx(grid[int(np.argmax(likelihood))], abs=2e-3)
    assert fit_weights(np.stack([log_p_MN[0], log_p_MN[0] - 5])) == pytest.approx([1, 0], abs=1e-6)


def test_log_mean_is_the_mean_of_probabilities():
    logits = np.random.default_rng(1).normal(0, 3, (2, 5, 4)).astype(np.float32)
    odds = np.exp(logits.astype(np.float64))
    p = odds / odds.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(np.exp(log_mean(list(logits), np.array([0.3, 0.7]))), 0.3 * p[0] + 0.7 * p[1], rtol=1e-5)


def test_the_surest_answers_each_example():
    outputs = [[np.full((2, 3), m), np.full((1, 3), m)] for m in (0.0, 1.0)]
    routed = surest(outputs, np.array([[0.9, 0.2, 0.1], [0.5, 0.3, 0.4]]))
    np.testing.assert_array_equal(np.concatenate(routed)[:, 0], [0, 1, 1])


@pytest.fixture(scope="module")
def sentences():
    experiment = get_sentences()
    return experiment.task.corpus(experiment.data)  # type: ignore[attr-defined]


def noise(spec, seed, clips=3, frames=4):
    rng = np.random.default_rng(seed)
    shapes = ((clips, frames, len(spec.vocabulary)), (clips, frames, len(spec.words)))
    tokens_BTK, words_BTK = (rng.normal(0, 2, shape).astype(np.float32) for shape in shapes)
    return SentenceLogits(tokens_BTK, words_BTK)  # type: ignore[arg-type]


def test_together_is_the_text_of_the_largest_mean_probability(sentences):
    """Brute force over every text of up to three tokens, on four frames, where few tokens are likely at all."""
    spec, frames_BT = sentences.spec, np.ones((3, 4), bool)
    likely = (0, 2, 3)
    members = [noise(spec, seed) for seed in (0, 1)]
    for member in members:
        member.tokens_BTK[..., [k for k in range(len(spec.vocabulary)) if k not in likely]] = -60
    decoding = Decoding(width=64, nbest=64, words=0.0)
    weights_M = np.array([0.4, 0.6])
    read = read_together(spec, decoding, [], [[member] for member in members], weights_M, [frames_BT])["beam"]
    texts: list[tuple[int, ...]] = [t for n in range(4) for t in itertools.product(likely[1:], repeat=n)]
    tokens = stack_tokens(texts, width=4)
    for clip in range(3):
        rows = np.full(len(texts), clip)
        args = [jnp.asarray(array) for array in (frames_BT[rows], tokens.labels_BN, tokens.tokens_BN)]
        log_p = [-np.asarray(ctc_loss(jnp.asarray(m.tokens_BTK[rows]), *args), np.float64) for m in members]
        # ctc_loss gives 0 for a text that does not fit.
        fits = np.array([len(t) + sum(a == b for a, b in itertools.pairwise(t)) <= 4 for t in texts])
        total = np.where(fits, weights_M @ np.exp(log_p), -1)
        assert read[clip] == texts[int(total.argmax())]


def test_one_model_twice_reads_as_it_does_alone(sentences):
    spec, frames_BT = sentences.spec, np.ones((3, 12), bool)
    member = noise(spec, 2, frames=12)
    decoding = Decoding(width=8, nbest=8)
    together = read_together(spec, decoding, [], [[member], [member]], np.array([0.5, 0.5]), [frames_BT])
    alone = readers(spec, decoding, [])
    assert together["lexicon"] == transcribe(alone["lexicon"], [member], [frames_BT])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two word runs and two sentence runs that differ in their seeds."""
    folder = tmp_path_factory.mktemp("runs")
    one = changed(get_config(), train={"epochs": 1})
    for name, seed in (("a", 0), ("b", 1)):
        fit(changed(one, name=name, train={"seed": seed}), folder, resume=False, overwrite=False)
    fit(changed(get_sentences(), name="s", train={"epochs": 1}), folder, resume=False, overwrite=False)
    fit(changed(get_sentences(), name="t", train={"epochs": 1, "seed": 1}), folder, resume=False, overwrite=False)
    return folder


def test_words_are_scored_by_the_mean_probability(runs, tmp_path, capsys):
    ensemble.run(["a", "b", "--runs", str(runs), "--json", str(tmp_path / "scores.json")])
    said = capsys.readouterr().out
    assert "2 runs on test, 12 examples, mixed by weights 0.500, 0.500" in said
    figures = json.loads((tmp_path / "scores.json").read_text())
    saved = [load_saved(RunFolder.find(name, runs)) for name in "ab"]
    corpus = saved[0].corpus()
    p_MNK = np.stack([jax.nn.softmax(run.predict(corpus, "test")[0][0], axis=-1) for run in saved])
    hits = p_MNK.mean(axis=0).argmax(axis=1) == corpus.splits["test"].buckets[0].target
    assert figures["scores"]["accuracy"]["value"] == pytest.approx(hits.mean())
    for extra in (["--weights"], ["--route", "confidence"]):
        ensemble.run(["a", "b", "--runs", str(runs), *extra])
        assert "accuracy" in capsys.readouterr().out


def test_a_run_is_asked_about_other_views_of_a_clip(runs, sentences, capsys):
    """Mirrored twice is as it was; a speed shows frames from where they were; and the mixture is that of the views."""
    spec, bucket = sentences.spec, jax.tree.map(jnp.asarray, sentences.splits["val"].buckets[0])
    look = functools.partial(seen_as, ids=spec.input.ids, preset=spec.topology.preset)
    other = look(bucket, "mirror")
    assert np.abs(other.landmarks_BTVC - bucket.landmarks_BTVC).max() > 0.1
    np.testing.assert_allclose(look(other, "mirror").landmarks_BTVC, bucket.landmarks_BTVC, atol=1e-6)
    middle = bucket.frames_BT.shape[1] // 2
    twice = look(bucket, "2.0")
    for t in (-3, 0, 4):
        np.testing.assert_allclose(
            twice.landmarks_BTVC[:, middle + t], bucket.landmarks_BTVC[:, middle + 2 * t], atol=1e-6
        )
        np.testing.assert_array_equal(twice.frames_BT[:, middle + t], bucket.frames_BT[:, middle + 2 * t])
    assert not twice.frames_BT[:, 0].any()

    ensemble.run(["a", "--views", "mirror", "0.9", "--runs", str(runs)])
    said = capsys.readouterr().out
    assert "3 views on test, 12 examples, mixed by weights 0.333" in said and "a (mirror)" in said and "a (0.9)" in said
    run = load_saved(RunFolder.find("a", runs))
    corpus = run.corpus()
    asked = [run, run.seen_as("mirror"), run.seen_as("0.9")]
    mixture_NK = log_mean([one.predict(corpus, "test")[0][0] for one in asked])
    hits = np.asarray(mixture_NK).argmax(axis=1) == corpus.splits["test"].buckets[0].target
    assert f"accuracy  {hits.mean():.4f}" in " ".join(said.split()).replace("accuracy ", "accuracy  ")
    ensemble.run(["s", "--views", "1.1", "--split", "val", "--runs", str(runs)])
    assert "2 views on val" in capsys.readouterr().out


def test_sentences_are_scored_as_a_run_is(runs, capsys):
    ensemble.run(["s", "t", "--runs", str(runs), "--split", "val", "--weights", "--task.decode.words", "2"])
    said = capsys.readouterr().out
    assert all(f"{name}/wer" in said for name in ("greedy", "beam", "lexicon"))


def answer(model, params, state, batch):
    """What a model says in inference, compiled."""
    return jax.jit(lambda params, state, batch: model.apply(params, state, batch, None)[0])(params, state, batch)


def measured(task, outputs, batch, *, train):
    return jax.jit(lambda outputs, batch: task.metrics(outputs, batch, train=train))(outputs, batch)


def test_members_of_one_model_are_models_of_their_own(sentences):
    """Outputs, and every member's own gradient, are those of the member alone; dropout and beginnings differ."""
    task = Sentence(model=ConvCtc(width=8, blocks=1, kernel=3, hidden=8), members=2)
    alone, several = dataclasses.replace(task, members=1), task.build(sentences.spec)
    one = alone.build(sentences.spec)
    params, state = jax.jit(several.init)(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, sentences.splits["val"].buckets[0])
    own = [
        [{n[2:]: leaf for n, leaf in flat.items() if n.startswith(f"{m}.")} for flat in (params, state)]
        for m in range(2)
    ]
    outputs = answer(several, params, state, batch)
    for voice, variables in zip(outputs, own, strict=True):
        np.testing.assert_allclose(voice.tokens_BTK, answer(one, *variables, batch).tokens_BTK, atol=1e-5)
    assert np.abs(outputs[0].tokens_BTK - outputs[1].tokens_BTK).max() > 0.01

    def loss(model, task, state, key, params):
        return task.metrics(model.apply(params, state, batch, key)[0], batch, train=True)["loss"].value

    dropped = jax.random.key(1)
    got = jax.jit(jax.grad(functools.partial(loss, several, task, state, dropped)))(params)
    for m, key in enumerate(jax.random.split(dropped, 2)):
        wanted = jax.jit(jax.grad(functools.partial(loss, one, alone, own[m][1], key)))(own[m][0])
        for name, gradient in wanted.items():
            np.testing.assert_allclose(2 * got[f"{m}.{name}"], gradient, atol=1e-5, rtol=1e-3)


def test_members_learn_from_batches_of_their_own(sentences):
    """Each sees every example once an epoch, in its own order, and its part of the loss is that of it alone."""
    task = Sentence(
        model=ConvCtc(width=8, blocks=1, kernel=3, hidden=8), members=2, augment=Augment(shift=0.1, noise=0.01)
    )
    alone = dataclasses.replace(task, members=1)
    several, one = task.build(sentences.spec), alone.build(sentences.spec)
    params, state = jax.jit(several.init)(jax.random.key(0))
    split, size = sentences.splits["val"], 8
    plan = epoch_plan(split, batch=size, per_dispatch=2, seed=0, epoch=0, orders=2)
    rows_MN = np.concatenate([rows_B.reshape(2, size) for part in plan for rows_B in part.rows_KB], axis=1)
    assert np.any(rows_MN[0] != rows_MN[1])
    for rows_N in rows_MN:
        np.testing.assert_array_equal(np.sort(rows_N[rows_N >= 0]), np.arange(len(split)))
    batch = take(jax.tree.map(jnp.asarray, split.buckets[0]), jnp.asarray(plan[0].rows_KB[0]))
    varied = jax.jit(lambda batch, key: task.vary(batch, sentences.spec, key))(batch, jax.random.key(2)).batches
    own = [jax.tree.map(lambda leaf, m=m: leaf[m], varied) for m in (0, 1)]
    for m, mine in enumerate(own):
        labels_BN = split.buckets[0].target.tokens.labels_BN[rows_MN[m, :size]]
        np.testing.assert_array_equal(mine.target.tokens.labels_BN, labels_BN)
    outputs = answer(several, params, state, PerMember(varied))
    got = measured(task, outputs, PerMember(varied), train=True)
    wanted = []
    for m, voice in enumerate(outputs):
        named = [{n[2:]: leaf for n, leaf in flat.items() if n.startswith(f"{m}.")} for flat in (params, state)]
        said = answer(one, *named, own[m])
        np.testing.assert_allclose(voice.tokens_BTK, said.tokens_BTK, atol=1e-5)
        wanted.append(measured(alone, said, own[m], train=True))
    for name, mean in got.items():
        assert float(mean.value) == pytest.approx(float(wanted[0][name].merge(wanted[1][name]).value), rel=1e-4)


def test_members_of_a_word_reader_learn_apart_and_answer_together():
    experiment = get_config()
    corpus = experiment.task.corpus(experiment.data)
    alone = dataclasses.replace(experiment.task, augment=Augment(noise=0.01))
    task = dataclasses.replace(alone, members=2)
    model, one = task.build(corpus.spec), alone.build(corpus.spec)
    params, state = jax.jit(model.init)(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, corpus.splits["val"].buckets[0])
    outputs = answer(model, params, state, batch)
    mixture_BK = log_mean(outputs)
    together = task.metrics(outputs, batch, train=False)
    assert float(together["accuracy"].value) == float((mixture_BK.argmax(axis=1) == batch.target).mean())
    right_B = jnp.take_along_axis(mixture_BK, batch.target[:, None], axis=1)[:, 0]
    assert float(together["loss"].value) == pytest.approx(-float(right_B.mean()), rel=1e-5)

    own = jax.jit(lambda batch, key: task.vary(batch, corpus.spec, key))(batch, jax.random.key(1))
    outputs = answer(model, params, state, own)
    got, wanted = task.metrics(outputs, own, train=True)["loss"], []
    for m in range(2):
        named = [{n[2:]: leaf for n, leaf in flat.items() if n.startswith(f"{m}.")} for flat in (params, state)]
        mine = jax.tree.map(lambda leaf, m=m: leaf[m], own.batches)
        wanted.append(alone.metrics(answer(one, *named, mine), mine, train=True)["loss"])
    assert float(got.value) == pytest.approx(float(wanted[0].merge(wanted[1]).value), rel=1e-5)
    grouped = task.grouped_loss(outputs, own, corpus.spec)
    assert float((grouped.loss_N * grouped.weight_N).sum() / grouped.weight_N.sum()) == pytest.approx(float(got.value))


@pytest.mark.slow
def test_a_run_with_members_is_scored_asked_and_mixed_like_any_other(runs, sentences, capsys):
    tiny = get_sentences()
    both = changed(tiny, name="both", task=dataclasses.replace(tiny.task, members=2))  # type: ignore[type-var]
    fit(both, runs, resume=False, overwrite=False)
    saved = load_saved(RunFolder.find("both", runs))
    split, train = sentences.splits["val"], sentences.splits["train"]
    outputs = saved.predict(sentences, "val")[0]
    scores = saved.task.score(outputs, split, train, sentences.spec)
    members = [[bucket[m] for bucket in outputs] for m in (0, 1)]
    frames, halves = [split.buckets[0].frames_BT], np.full(2, 0.5)
    read = read_together(sentences.spec, saved.task.decode, [], members, halves, frames)
    shown = [
        list(dict.fromkeys(row["decoder"] for row in scores.tables["edits"])),
        [row["lexicon"] for row in scores.tables["transcripts"]],
    ]
    assert shown[0] == ["greedy", "beam", "lexicon"]
    assert shown[1] == [sentences.spec.vocabulary.decode(ids) for ids in read["lexicon"]]

    clip = visemes.load(tiny.data.visemes, next(visemes.find(tiny.data.visemes)))
    for decoder in ("lexicon", "greedy"):
        assert Reader(saved, decoder).read(clip).text is not None
    ensemble.run(["both", "s", "--runs", str(runs), "--split", "val", "--weights"])
    assert "lexicon/wer" in capsys.readouterr().out


def test_mistakes_are_one_line(runs, capsys):
    for arguments, says in (
        (["a"], "needs two runs or more, or one and --views"),
        (
            ["a", "--views", "upside-down"],
            "a view is 'mirror' or a speed from 0.2 to 5, such as 0.9, not 'upside-down'",
        ),
        (["a", "--views", "nan"], "not 'nan'"),
        (["a", "s"], "its task is Sentence, not Word"),
        (["a", "nobody"], "there is no run 'nobody'"),
        (["a", "b", "--split", "dev"], "there is no split 'dev'"),
        (["a", "b", "--weights", "--route", "confidence"], "not allowed with"),
        (["a", "b", "--json", "no/such/file"], "cannot be written"),
    ):
        assert guarded(ensemble.run, [*arguments, "--runs", str(runs)]) == 2
        assert says in capsys.readouterr().err


def test_the_data_of_equal_runs_are_read_once(runs):
    members = gather([load_saved(RunFolder.find(name, runs)) for name in "ab"])
    assert members.corpora[0] is members.corpora[1]
