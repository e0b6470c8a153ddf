"""The sentence task: padding, batch-mates, helpers, infeasible targets, collapse, and text from its outputs."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import changed, get_config

from jaxlip.cli import evaluate, train
from jaxlip.cli.main import guarded
from jaxlip.data.batches import Split
from jaxlip.data.face import FaceData
from jaxlip.data.sources import grid
from jaxlip.data.sources.visemes import Visemes
from jaxlip.data.vocab import Vocabulary
from jaxlip.engine.loop import Trainer
from jaxlip.engine.run import RunFolder
from jaxlip.face.augment import Augment
from jaxlip.models.conv_ctc import ConvCtc
from jaxlip.models.graph_ctc import GraphCtc
from jaxlip.models.heads import SentenceLogits
from jaxlip.tasks.sentence import Sentence
from jaxlip.tasks.transcribe import Decoding, readers, transcribe

CONV = ConvCtc(width=8, blocks=2, kernel=5, hidden=8, dropout=0.1, input_dropout=0.0)
GRAPH = GraphCtc(hidden=8, dropout=0.1)
DATA = FaceData(
    preset="lips40",
    features="extended56",
    buckets=(75,),
    visemes=Visemes(words=6, train=24, val=8, test=8, sentence=2),
)


def experiment(model=CONV, **task):
    sentence = Sentence(model=model, augment=Augment(), **task)
    return changed(get_config(), data=DATA, task=sentence, optim={"average": 0.9})


@pytest.fixture(scope="module")
def corpus():
    return experiment().task.corpus(DATA)


def random_parameters(model):
    params, state = jax.jit(model.init)(jax.random.key(0))
    return {name: p + 0.05 * jax.random.normal(jax.random.key(len(name)), p.shape) for name, p in params.items()}, state


def answer(model, params, state, batch):
    """What a model says in inference, compiled."""
    return jax.jit(lambda params, state, batch: model.apply(params, state, batch, None)[0])(params, state, batch)


def real_logits(model, params, state, batch):
    """Logits [B, T, K] with zeros in frames that are not real."""
    logits = answer(model, params, state, batch)
    return [np.asarray(jnp.where(batch.frames_BT[..., None], part, 0)) for part in jax.tree.leaves(logits)]


@pytest.mark.parametrize("model", [CONV, GRAPH], ids=["conv", "graph"])
def test_padding_and_batch_mates_change_nothing(corpus, model):
    built = experiment(model).task.build(corpus.spec)
    params, state = random_parameters(built)
    batch = jax.tree.map(lambda array: jnp.asarray(array[:4]), corpus.splits["train"].buckets[0])
    whole = real_logits(built, params, state, batch)
    alone = real_logits(built, params, state, jax.tree.map(lambda array: array[2:3], batch))
    padded = dataclasses.replace(
        batch,
        landmarks_BTVC=jnp.pad(batch.landmarks_BTVC, ((0, 0), (0, 6), (0, 0), (0, 0)), constant_values=7.0),
        **{name: jnp.pad(getattr(batch, name), ((0, 0), (0, 6))) for name in ("frames_BT", "detected_BT", "speech_BT")},
    )
    longer = real_logits(built, params, state, padded)
    for a, b, c in zip(whole, alone, longer, strict=True):
        assert np.abs(a).max() > 0.1
        np.testing.assert_allclose(b[0], a[2], atol=2e-5)
        np.testing.assert_allclose(c[:, : a.shape[1]], a, atol=2e-5)


@pytest.mark.parametrize("model", [CONV, GRAPH], ids=["conv", "graph"])
def test_every_parameter_learns_and_frames_differ(corpus, model):
    task = experiment(model).task
    built = task.build(corpus.spec)
    params, state = random_parameters(built)
    batch = jax.tree.map(lambda array: jnp.asarray(array[:4]), corpus.splits["train"].buckets[0])

    def loss(params):
        outputs, _ = built.apply(params, state, batch, jax.random.key(1))
        return task.metrics(outputs, batch, train=True)["loss"].value

    grads = jax.jit(jax.grad(loss))(params)
    dead = {name for name, grad in grads.items() if float(jnp.abs(grad).max()) == 0}
    assert not dead
    logits_TK = np.asarray(answer(built, params, state, batch).tokens_BTK[0])
    assert logits_TK.std(axis=0).max() > 1e-2


def test_helpers_are_off_at_weight_zero_and_clips_without_room_do_not_count(corpus):
    batch = jax.tree.map(lambda array: jnp.asarray(array[:4]), corpus.splits["train"].buckets[0])
    plain, helped = experiment(word_ctc=0.0, spans=0.0).task, experiment(word_ctc=1.0, spans=1.0).task
    built = plain.build(corpus.spec)
    params, state = random_parameters(built)
    outputs = answer(built, params, state, batch)
    alone, more = plain.metrics(outputs, batch, train=False), helped.metrics(outputs, batch, train=False)
    np.testing.assert_allclose(alone["loss"].value, alone["ctc"].value)
    assert more["loss"].value > alone["loss"].value and more["ctc"].value == alone["ctc"].value
    few_BT = batch.frames_BT & (jnp.arange(batch.frames_BT.shape[1]) < 3)[None]
    short = dataclasses.replace(batch, frames_BT=jnp.where(jnp.arange(4)[:, None] == 1, few_BT, batch.frames_BT))
    outputs = answer(built, params, state, short)
    means = plain.metrics(outputs, short, train=False)
    assert float(means["infeasible"].total) == 1 and float(means["loss"].weight) == 3


def test_the_fit_of_a_few_clips_becomes_text(corpus, tmp_path):
    few = jax.tree.map(lambda array: array[:4], corpus.splits["train"].buckets[0])
    split = Split(buckets=(few,), names=(corpus.splits["train"].names[0][:4],))
    handful = dataclasses.replace(corpus, splits={"train": split, "val": split})
    model = ConvCtc(width=24, blocks=2, kernel=5, hidden=24, dropout=0.0, input_dropout=0.0)
    config = changed(experiment(model), optim={"lr": 1e-2, "average": 0.0}, train={"epochs": 100, "batch": 4})
    config = changed(config, train={"eval_epochs": 50, "monitor": "token_error"})
    RunFolder(tmp_path / "run").create(overwrite=False)
    trainer = Trainer(config, RunFolder(tmp_path / "run"), handful)
    row = trainer.fit()
    trainer.checkpoints.close()
    assert row["val/token_error"] == 0.0 and row["val/span_accuracy"] == 1.0


def test_targets_without_room_are_counted_and_said_once_and_the_run_finishes(tmp_path, capsys, monkeypatch):
    clips = {"preset": "lips40", "visemes": Visemes(words=100, train=32, val=8, test=8, sentence=1)}
    monkeypatch.setattr(Vocabulary, "encode", lambda self, text, encode=Vocabulary.encode: encode(self, text) * 8)
    config = changed(get_config(), data=clips, task=Sentence(model=GRAPH, spans=0.0), train={"epochs": 2})
    train.fit(config, tmp_path, resume=False, overwrite=False)
    said = capsys.readouterr().out
    assert said.count("train sentences") == 1 and "more tokens than frames can tell apart" in said
    saved = json.loads((tmp_path / "tiny/config.json").read_text())["data"]
    assert 0 < saved["infeasible"]["train"] <= 32
    rows = RunFolder(tmp_path / "tiny").read_metrics()
    assert len(rows) == 2 and rows[-1]["train/infeasible"] == pytest.approx(saved["infeasible"]["train"] / 32)
    assert np.isfinite(rows[-1]["train/loss"])


def test_collapse_is_named_with_what_to_do(corpus):
    task = experiment().task
    assert task.advice({"blank": 0.5}) is None
    assert "CTC has collapsed" in task.advice({"blank": 0.995})


def test_train_and_evaluate_sentences_with_every_decoder(tmp_path, capsys):
    config = experiment()
    train.fit(changed(config, train={"epochs": 1}), tmp_path, resume=False, overwrite=False)
    where = ["--run", "tiny", "--runs", str(tmp_path), "--split", "test"]
    assert guarded(evaluate.run, [*where, "--json", str(tmp_path / "scores.json")]) == 0, capsys.readouterr().err
    figures = json.loads((tmp_path / "scores.json").read_text())
    assert {name.partition("/")[0] for name in figures["scores"]} == {"greedy", "words", "beam", "lexicon"}
    assert all(score["floor"] is not None for score in figures["scores"].values())
    assert [row["clip"] for row in figures["tables"]["transcripts"]] and (
        tmp_path / "tiny/transcripts_test.csv"
    ).is_file()
    assert guarded(evaluate.run, [*where, "--task.decode.ngram", "2", "--task.decode.width", "4"]) == 0
    assert guarded(evaluate.run, [*where, "--optim.lr", "1"]) == 2
    assert "only --task.decode.* may change" in capsys.readouterr().err


def spoken(texts: list[str], vocabulary: Vocabulary, frames: int = 75) -> np.ndarray:
    """Logits [B, T, K] that say these texts without doubt, two frames a token and a blank between."""
    logits_BTK = np.zeros((len(texts), frames, len(vocabulary)), np.float32)
    for b, text in enumerate(texts):
        ids = [token for token in vocabulary.encode(text) for token in (token, token, 0)]
        ids += [0] * (frames - len(ids))
        logits_BTK[b, np.arange(frames), ids] = 20.0
    return logits_BTK


def test_decoders_agree_on_clear_speech_and_the_grammar_mends_what_is_illegal(corpus):
    letters = Vocabulary.of_characters([" ".join(grid.WORDS)])
    words = Vocabulary.of_words(grid.WORDS)
    spec = dataclasses.replace(corpus.spec, vocabulary=letters, words=words, slots=grid.SLOTS)
    texts = ["bin blue at f two now", "set red with z one soon", "lay blue at f two now"]
    logits_BTK = spoken(texts, letters)
    # The last clip's first letter is lost: only the grammar knows that "ay" is no command.
    logits_BTK[2, :2, letters.encode("l")[0]] = 0.0
    logits = SentenceLogits(logits_BTK, spoken(texts, words, 75), spoken(texts, words, 75))
    frames_BT = np.ones((3, 75), bool)
    for name, reader in readers(spec, Decoding(width=32), texts).items():
        read = [letters.decode(ids) for ids in transcribe(reader, [logits], [frames_BT])]
        assert read[:2] == texts[:2], name
        assert read[2] == (texts[2] if name in ("words", "lexicon", "grammar") else read[2])
