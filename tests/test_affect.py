"""Affect: causal features, sources, splits, encoders and their cache, the models' sizes, user effects, and leaks."""

import dataclasses
import datetime
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.cli import folds, params
from jaxlip.cli.train import fit
from jaxlip.config import Experiment, load_config
from jaxlip.data.batches import Split
from jaxlip.data.embedding_cache import EmbeddingCache
from jaxlip.data.sources import emobank, essays, user_series
from jaxlip.data.sources.user_series import UserSeries
from jaxlip.data.text_encoders import embed, model_folder
from jaxlip.data.texts import FEATURES, TextData, assign_splits, load_texts, user_of
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.metrics.affect import affect_scores, weighted_ccc
from jaxlip.models.affect_lstm import AffectLstm
from jaxlip.models.affect_mlp import AffectMlp
from jaxlip.preflight.leaks import check_leaks
from jaxlip.preflight.probe import Probe
from jaxlip.preflight.use import check_use
from jaxlip.report.folds import fold_of
from jaxlip.tasks.affect import Affect
from jaxlip.text.causal import CAUSAL_FEATURES, causal_features, history_of
from jaxlip.text.entries import Entry, by_user
from jaxlip.text.statistics import TEXT_STATISTICS, text_statistics
from jaxlip.text.tfidf import count_terms, fit_tfidf

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
TINY = TextData(tfidf_width=24, user_series=UserSeries(users=9, entries=8))


@pytest.fixture(scope="module")
def corpus():
    return load_texts(TINY)


def series(rng, count: int, *, same_times: bool = False) -> list[Entry]:
    hours = rng.integers(0, 6 if same_times else 500, count).cumsum()
    start = datetime.datetime(2024, 1, 1)
    return [
        Entry(
            user="u",
            id=str(n),
            text=f"text {n}",
            labels=(float(rng.uniform(-2, 2)), float(rng.uniform(0, 2))),
            time=start + datetime.timedelta(hours=int(hours[n] // 3)),
        )
        for n in range(count)
    ]


# Causality


@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.booleans(), st.data())
@settings(max_examples=60, deadline=None)
def test_no_feature_moves_with_the_labels_of_now_or_later(count, seed, same_times, data):
    rng = np.random.default_rng(seed)
    entries = series(rng, count, same_times=same_times)
    now = data.draw(st.integers(0, count - 1))
    changed = [
        dataclasses.replace(e, labels=(float(rng.uniform(-2, 2)), float(rng.uniform(0, 2))))
        if e.time >= entries[now].time
        else e
        for e in entries
    ]
    before, after = (causal_features(part, essays.SCALE)[now] for part in (entries, changed))
    np.testing.assert_array_equal(before, after)
    # Nor with what is written later, or whether anything is.
    np.testing.assert_array_equal(before, causal_features(entries[: now + 1], essays.SCALE)[now])


def test_features_are_what_they_are_called():
    rng = np.random.default_rng(0)
    entries = series(rng, 9)
    features_ND = causal_features(entries, essays.SCALE)
    labels_N2 = np.array([e.labels for e in entries])
    row = dict(zip(CAUSAL_FEATURES, features_ND[8], strict=True))
    assert row["valence_lag1"] == pytest.approx(labels_N2[7, 0] / 2, abs=1e-6)
    assert row["arousal_lag5"] == pytest.approx(labels_N2[3, 1] - 1, abs=1e-6)
    assert row["valence_mean"] == pytest.approx(labels_N2[:8, 0].mean() / 2, abs=1e-6)
    assert row["arousal_deviation"] == pytest.approx(labels_N2[:8, 1].std(), abs=1e-6)
    assert row["hour_sin"] ** 2 + row["hour_cos"] ** 2 == pytest.approx(1, abs=1e-5)
    past = history_of(features_ND, essays.SCALE)
    assert np.isnan(past["last value"][0]).all()
    np.testing.assert_allclose(past["last value"][1:], labels_N2[:-1], atol=1e-5)
    np.testing.assert_allclose(past["user mean so far"][4], labels_N2[:4].mean(axis=0), atol=1e-5)
    assert len(TEXT_STATISTICS) == 10 and len(FEATURES) == 31


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_text_statistics_are_finite_for_any_text(text):
    assert text_statistics(text).shape == (10,) and np.isfinite(text_statistics(text)).all()
    assert np.abs(text_statistics(text)).max() < 10


def test_a_model_given_leaking_statistics_is_caught(corpus):
    """The original's defect: the mean over all of a user's entries, the judged one and later ones too. What a least
    squares fit gains by it on later entries of the same users is what the causal features must not show."""

    def fitted(leaky: bool) -> float:
        rng = np.random.default_rng(0)
        past, truth = [], []
        for user in range(300):
            labels_N = rng.normal(0, 1, 4)
            entries = [
                Entry(user=str(user), id=str(n), text="a", labels=(float(np.clip(v, -2, 2)), 1.0))
                for n, v in enumerate(labels_N)
            ]
            features_ND = causal_features(entries, essays.SCALE)
            labels_N = np.array([entry.labels[0] for entry in entries])
            mean_N = np.full(4, labels_N.mean()) if leaky else features_ND[:, CAUSAL_FEATURES.index("valence_mean")]
            past += list(mean_N)
            truth += list(labels_N)
        x_N, y_N = np.array(past), np.array(truth)
        slope, offset = np.polyfit(x_N[:600], y_N[:600], 1)
        return weighted_ccc(slope * x_N[600:] + offset, y_N[600:], np.ones(600))

    # Labels here are pure chance: nothing that is causal can tell them, and the leak tells a quarter of their variance.
    assert fitted(leaky=True) > 0.3
    assert abs(fitted(leaky=False)) < 0.1


# Sources

HEADER = "user_id,text_id,text,timestamp,collection_phase,is_words,valence,arousal"
GOOD = '1,1,"fine, thanks",2024-01-01 10:00:00,1,False,1.0,0.5'


def write(path: pathlib.Path, *lines: str, end: str = "\n", bom: bool = False) -> pathlib.Path:
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + end.join((HEADER, *lines, "")).encode())
    return path


@pytest.mark.parametrize("end, bom", [("\n", False), ("\r\n", True)])
def test_every_malformed_row_is_named_by_its_line(tmp_path, end, bom):
    lines = (
        GOOD,
        "1,2,bad date,yesterday,1,False,1,1",
        "1,3,no score,2024-01-02,1,False,,1",
        "1,4,too much,2024-01-02,1,False,2.5,1",
        "1,5,not a number,2024-01-02,1,False,0,nan",
        "1,1,again,2024-01-02,1,False,0,1",
        "1,6,,2024-01-02,1,False,0,1",
        f"1,7,{'x' * 10_000},2024-01-02,1,False,0,1",
        "1,8,\U0001f600 so \U0001f389,2024-01-02T12:00:00+02:00,1,False,2,0",
        "1,9,short",
        '1,10,"two' + end + 'lines",2024-01-03,1,False,-2,2',
        ",11,nobody,2024-01-02,1,False,0,1",
        "2,1,the same id of another user,2024-01-02,1,False,0,1",
    )
    entries, problems = essays.read(write(tmp_path / "essays.csv", *lines, end=end, bom=bom))
    assert [(e.user, e.id) for e in entries] == [("1", "1"), ("1", "7"), ("1", "8"), ("1", "10"), ("2", "1")]
    found = {problem.line: problem.reason for problem in problems}
    assert found == {
        3: "the timestamp is no date",
        4: "valence is missing",
        5: "valence is not from -2 to 2",
        6: "arousal is not from 0 to 2",
        7: "the id is that of an earlier line",
        8: "the text is empty",
        9: "the text has 10,000 characters or more",
        11: "the line does not have as many columns as the header",
        14: "user_id is missing",
    }
    assert [problem.line for problem in problems if problem.kept] == [9]
    assert entries[2].time == datetime.datetime(2024, 1, 2, 10)


def test_notes_tell_the_lines_and_nothing_is_lost(tmp_path):
    good = [f"{u},{n},text {n},2024-01-{n + 1:02d},1,False,{n % 3 - 1},1" for u in range(8) for n in range(6)]
    path = write(tmp_path / "essays.csv", *good, "9,9,x,never,1,False,0,1")
    corpus = load_texts(TextData(source="essays", root=str(path), tfidf_width=8))
    assert corpus.notes == (f"left out: the timestamp is no date (1 line: {len(good) + 2})",)
    assert sum(corpus.counts["examples"].values()) == len(good)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a,b\n1,2\n", "lacks the columns user_id"),
        (HEADER.encode() + b"\n", "no usable line"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_files_that_are_no_such_table_are_one_line(tmp_path, content, message):
    path = tmp_path / "essays.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        essays.read(path)
    with pytest.raises(UserError, match="cannot be read"):
        essays.read(tmp_path / "none.csv")


def test_emobank_rows(tmp_path):
    path = tmp_path / "emobank.csv"
    path.write_text('id,split,V,A,D,text\na,train,3.0,3.1,3.2,"Yes, ""well"""\nb,dev,9,3,3,no\nc,dev,3,3,3,yes\n')
    entries, problems = emobank.read(tmp_path)
    assert [(e.id, e.split, e.text) for e in entries] == [("a", "train", 'Yes, "well"'), ("c", "val", "yes")]
    assert [(p.line, p.reason) for p in problems] == [(3, "V is not from 1 to 5")]


# Windows and splits


def test_windows_are_padded_in_front_and_masked(corpus):
    users = by_user(user_series.read(TINY.user_series))
    for split in corpus.splits.values():
        batch, names = split.buckets[0], split.names[0]
        for row, name in enumerate(names):
            user, _, number = name.rpartition("/")
            place = [entry.id for entry in users[user]].index(number)
            real = min(place + 1, 7)
            assert split.speakers[0][row] == user
            assert batch.entries_BT[row].tolist() == [False] * (7 - real) + [True] * real
            assert not batch.text_BTD[row, : 7 - real].any() and not batch.features_BTD[row, : 7 - real].any()
            np.testing.assert_allclose(batch.target[row], users[user][place].labels, rtol=1e-6)
            for back in range(real):
                want_D = text_statistics(users[user][place - back].text)
                np.testing.assert_array_equal(batch.features_BTD[row, 6 - back, 21:], want_D)


def test_splits_keep_users_and_time_apart():
    users = by_user(user_series.read(TINY.user_series))
    for held_out in ("users", "later", "both"):
        split_of = assign_splits(dataclasses.replace(TINY, held_out=held_out), users)
        for user, entries in users.items():
            order = [("train", "val", "test").index(split_of[user, entry.id]) for entry in entries]
            assert order == sorted(order)
            assert held_out != "users" or len(set(order)) == 1
    tested = []
    for fold in range(3):
        split_of = assign_splits(dataclasses.replace(TINY, folds=3, fold=fold), users)
        by_split = {
            split: {user for (user, _), own in split_of.items() if own == split} for split in ("train", "val", "test")
        }
        assert sum(map(len, by_split.values())) == len(users) == len(set().union(*by_split.values()))
        tested += sorted(by_split["test"])
    assert sorted(tested) == sorted(users)


def test_users_who_were_not_trained_on_are_unknown(corpus):
    assert (corpus.splits["train"].buckets[0].user_B > 0).all()
    for split in ("val", "test"):
        batch, names = corpus.splits[split].buckets[0], corpus.splits[split].names[0]
        for user, name in zip(batch.user_B, names, strict=True):
            known = user_of(name) in corpus.spec.users
            assert corpus.spec.users[user - 1] == user_of(name) if known else user == 0
        assert 0 < (batch.user_B == 0).sum() < len(names)


# Encoders


def test_tfidf_is_the_textbook_formula():
    texts = ["good good day", "bad day", "good night", "a bad night", "good", "bad"]
    labels_NA = np.array([[1.0, 0], [-1, 0], [1, 0], [-1, 1], [1, 0], [-1, 0]])
    fitted = fit_tfidf(texts, labels_NA, 4)
    # What tells the labels apart, not what is frequent.
    assert all(any(term[2:].strip() in word for word in ("good", "bad")) for term in fitted.terms)
    vectors_ND = fitted(texts, 6)
    assert not vectors_ND[:, len(fitted.terms) :].any()
    for text, row_D in zip(texts, vectors_ND, strict=True):
        counts = count_terms(text)
        want = np.array(
            [
                (1 + np.log(counts[t])) * idf if t in counts else 0
                for t, idf in zip(fitted.terms, fitted.idf, strict=True)
            ]
        )
        np.testing.assert_allclose(row_D[: len(want)], want / max(np.linalg.norm(want), 1e-9), rtol=1e-5)
        for term, idf in zip(fitted.terms, fitted.idf, strict=True):
            frequency = sum(term in count_terms(other) for other in texts)
            assert idf == pytest.approx(np.log(7 / (1 + frequency)) + 1)
    assert not fitted(["zzz"], 6).any()


def test_cache_asks_once_and_survives_a_cut(tmp_path):
    asked: list[str] = []

    def encode(texts):
        asked.extend(texts)
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32)

    texts = ["b", "aaa", "b", "cc"]
    want_ND = np.array([[len(t), ord(t[0])] for t in texts])
    np.testing.assert_array_equal(EmbeddingCache(tmp_path, 2).lookup(texts, encode), want_ND)
    assert sorted(asked) == ["aaa", "b", "cc"]
    np.testing.assert_array_equal(EmbeddingCache(tmp_path, 2).lookup(texts, encode), want_ND)
    assert len(asked) == 3
    # A kill between rows and digests, and in the middle of a row.
    digests = tmp_path / "texts.sha256"
    digests.write_bytes(digests.read_bytes()[:-70])
    with (tmp_path / "vectors.f16").open("ab") as file:
        file.write(b"\x01")
    np.testing.assert_array_equal(EmbeddingCache(tmp_path, 2).lookup([*texts, "dddd"], encode)[:4], want_ND)
    np.testing.assert_array_equal(EmbeddingCache(tmp_path, 2).lookup(texts, encode), want_ND)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory) -> pathlib.Path:
    transformers = pytest.importorskip("transformers", reason="needs the extra text")
    torch = pytest.importorskip("torch", reason="needs the extra text")
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "i", "am", "fine", "not"]
    (folder / "vocab.txt").write_text("\n".join(words))
    from tokenizers import BertWordPieceTokenizer

    pieces = BertWordPieceTokenizer(str(folder / "vocab.txt"))
    pieces.save(str(folder / "tokenizer.json"))
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=16,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_any_hugging_face_folder_encodes_texts(tiny_bert, tmp_path):
    import torch
    import transformers

    texts = ["i am fine", "not", "i am not fine " * 20]
    vectors_NLD = embed(str(tiny_bert), texts, tmp_path)
    assert vectors_NLD.shape == (3, 3, 8)
    network = transformers.AutoModel.from_pretrained(tiny_bert).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    for text, vectors_LD in zip(texts, vectors_NLD, strict=True):
        alone = tokenizer(text, return_tensors="pt", truncation=True, max_length=16)
        with torch.inference_mode():
            states = network(**alone, output_hidden_states=True).hidden_states
        want_LD = np.stack([state[0].mean(0).numpy() for state in states])
        np.testing.assert_allclose(vectors_LD, want_LD, atol=3e-3)
    data = dataclasses.replace(TINY, encoders=(str(tiny_bert), "tfidf"), cache=str(tmp_path))
    assert data.text_width == 8 + 24
    assert load_texts(data).splits["train"].buckets[0].text_BTD.shape[-1] == 32
    assert dataclasses.replace(data, all_layers=True).text_width == 24 + 24


def test_an_encoder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="neither tfidf nor minilm nor a folder"):
        model_folder(str(tmp_path))


# Models


@pytest.mark.parametrize(
    "name, count", [("v30", 5_115_906), ("v33", 3_086_210), ("v34", 4_034_498), ("v32", 1_193_730)]
)
def test_parameter_counts_without_data(name, count, capsys):
    params.run(["--config", str(CONFIGS / f"affect_{name}.py"), "--num-users", "115", "--json"])
    assert json.loads(capsys.readouterr().out)["trainable"] == count


MODELS = {"lstm": AffectLstm(user=4, hidden=4, heads=2, dropout=0.1), "mlp": AffectMlp(user=4, hidden=8)}


@pytest.fixture(scope="module", params=list(MODELS))
def built(request, corpus):
    model = MODELS[request.param].build(corpus.spec)
    return model, jax.jit(model.init)(jax.random.key(0)), jax.jit(model.apply)


def test_padding_changes_nothing(built, corpus):
    model, (weights, state), apply = built
    batch = jax.tree.map(lambda array: array[:16], corpus.splits["val"].buckets[0])
    want, _ = apply(weights, state, batch, None)
    noise = np.random.default_rng(0)
    garbage = dataclasses.replace(
        batch,
        text_BTD=np.where(batch.entries_BT[..., None], batch.text_BTD, noise.normal(size=batch.text_BTD.shape)).astype(
            "f4"
        ),
        features_BTD=np.where(batch.entries_BT[..., None], batch.features_BTD, np.float32(7)),
    )
    got, _ = apply(weights, state, garbage, None)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), got, want)


def test_users_without_examples_stay_exactly_unknown(corpus):
    """One step on some users leaves the vectors of all others where they are, at the unknown user's."""
    task = Affect(model=AffectLstm(user=4, hidden=4, heads=2, dropout=0.0))
    model = task.build(corpus.spec)
    weights, state = model.init(jax.random.key(0))
    batch = jax.tree.map(lambda array: jnp.asarray(array[:12]), corpus.splits["train"].buckets[0])

    def loss(weights):
        return task.metrics(model.apply(weights, state, batch, jax.random.key(1))[0], batch, train=True)["loss"].value

    slope_UE = np.asarray(jax.jit(jax.grad(loss))(weights)["users.table"])
    met = np.unique(batch.user_B)
    others = [row for row in range(1, len(slope_UE)) if row not in met]
    assert others and not slope_UE[others].any() and not np.asarray(weights["users.table"])[1:].any()
    assert slope_UE[met].any(axis=1).all() and slope_UE[0].any()


def test_what_is_said_of_anyone_is_learned_as_if_no_user_were_known(corpus):
    """Of both parts of the loss, the gradient of what all users share is that of a model without a user table; and the
    answer for an unknown user is that of anyone, however much is known of others."""
    task = Affect(model=MODELS["mlp"], user_dropout=0.0)
    model, plain = task.build(corpus.spec), AffectMlp(user=0, hidden=8).build(corpus.spec)
    weights, state = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    weights = {name: w + jnp.asarray(rng.normal(0, 0.3, w.shape), w.dtype) for name, w in weights.items()}
    batch = jax.tree.map(lambda array: jnp.asarray(array[:32]), corpus.splits["train"].buckets[0])

    def loss(weights, model):
        means = task.metrics(model.apply(weights, state, batch, jax.random.key(1))[0], batch, train=True)
        return sum(means[name].value for name in ("loss", "penalty") if name in means)

    slopes = jax.grad(loss)(weights, model)
    shared = {name: w for name, w in weights.items() if not name.startswith("user.")}
    for name, slope in jax.grad(loss)(shared, plain).items():
        np.testing.assert_allclose(slopes[name], slope, rtol=1e-4, atol=1e-6)
    assert all(np.abs(slope).max() > 0 for name, slope in slopes.items() if name.startswith("user."))
    strangers = dataclasses.replace(batch, user_B=0 * batch.user_B)
    for users, alike in ((strangers, True), (batch, False)):
        answers = model.apply(weights, state, users, None)[0]
        assert np.array_equal(answers.user_BA, answers.anyone_BA) == alike


def test_user_dropout_mixup_and_smoothing(corpus):
    batch = jax.tree.map(lambda array: jnp.asarray(array[:40]), corpus.splits["train"].buckets[0])
    task = Affect(model=MODELS["mlp"], user_dropout=0.5, mixup=0.2, label_smoothing=0.2)
    varied = task.vary(batch, corpus.spec, jax.random.key(0))
    hidden = (np.asarray(varied.user_B) == 0).mean()
    assert 0.2 < hidden < 0.8
    # Smoothing and mixing both draw labels together, about the middle of valence's scale, 0.
    assert np.asarray(varied.target)[:, 0].std() < 0.85 * batch.target[:, 0].std()
    assert np.all(np.asarray(varied.entries_BT) >= batch.entries_BT)


# Scores


def test_scores_against_plain_numpy():
    rng = np.random.default_rng(0)
    users_N = np.repeat(list("abcdefgh"), [1, 2, 5, 6, 7, 8, 9, 10])
    truth_NA = rng.normal(size=(48, 2)) + rng.normal(size=(8, 2))[np.unique(users_N, return_inverse=True)[1]]
    guess_NA = 0.5 * truth_NA + 0.5 * rng.normal(size=(48, 2))
    seen_N = np.isin(users_N, list("abcd"))
    scores = affect_scores(guess_NA, truth_NA, users_N, seen_N, {"mean": np.zeros((48, 2))}).scores
    x_N, y_N = guess_NA[:, 0], truth_NA[:, 0]
    want = 2 * np.cov(x_N, y_N, bias=True)[0, 1] / (x_N.var() + y_N.var() + (x_N.mean() - y_N.mean()) ** 2)
    assert scores["valence/ccc"].value == pytest.approx(want)
    assert scores["valence/rmse"].value == pytest.approx(np.sqrt(np.mean((x_N - y_N) ** 2)))
    within = np.mean([np.corrcoef(x_N[users_N == u], y_N[users_N == u])[0, 1] for u in "cdefgh"])
    means = np.array([[v[users_N == u].mean() for v in (x_N, y_N)] for u in "abcdefgh"])
    between = np.corrcoef(means.T)[0, 1]
    assert scores["valence/r_within"].value == pytest.approx(within)
    assert scores["valence/r_between"].value == pytest.approx(between)
    assert scores["valence/r_composite"].value == pytest.approx(np.tanh((np.arctanh(within) + np.arctanh(between)) / 2))
    part = affect_scores(
        guess_NA[seen_N], truth_NA[seen_N], users_N[seen_N], seen_N[seen_N], {"mean": np.zeros((14, 2))}
    )
    assert scores["seen/ccc"].value == pytest.approx(part.scores["ccc"].value)
    assert scores["ccc"].low < scores["ccc"].value < scores["ccc"].high and scores["ccc"].floor == 0


@pytest.mark.slow
def test_folds_predict_every_example_once_and_compare_configs(tmp_path, capsys):
    for name, width in (("narrow", 2), ("wide", 4)):
        (tmp_path / f"{name}.py").write_text(
            "from jaxlip.config import Experiment, Train\n"
            "from jaxlip.data.texts import TextData\n"
            "from jaxlip.data.sources.user_series import UserSeries\n"
            "from jaxlip.models.affect_mlp import AffectMlp\n"
            "from jaxlip.tasks.affect import Affect\n"
            "def get_config():\n"
            f"    return Experiment(name='{name}', task=Affect(model=AffectMlp(user=2, hidden={width})),\n"
            "        data=TextData(tfidf_width=8, user_series=UserSeries(users=9, entries=6)),\n"
            "        train=Train(epochs=1, batch=16, monitor='disagreement'))\n"
        )
    configs = [str(tmp_path / f"{name}.py") for name in ("narrow", "wide")]
    out = tmp_path / "folds.json"
    folds.run(["--config", *configs, "--folds", "3", "--runs", str(tmp_path / "runs"), "--json", str(out)])
    said = capsys.readouterr().out
    assert "wide - narrow" in said and "exceeds the noise" in said
    scores = json.loads(out.read_text())["wide"][0]["scores"]
    assert "valence/r_composite" in scores and not any(name.startswith("seen/") for name in scores)
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        f"{name}-0-{fold}" for name in ("narrow", "wide") for fold in range(3)
    ]
    # A fold that is trained with the others is what it is alone.
    one = fold_of(load_config(pathlib.Path(configs[1])), 3, 1, 0)
    fit(one, tmp_path / "alone", resume=False, overwrite=False)
    rows = [RunFolder.find(one.name, tmp_path / runs).read_metrics()[-1] for runs in ("alone", "runs")]
    for name in ("train/loss", "val/loss", "val/disagreement"):
        assert rows[1][name] == pytest.approx(rows[0][name], rel=1e-4)
    with pytest.raises(UserError, match="--metric wer is none of"):
        folds.run(["--config", configs[0], "--folds", "3", "--runs", str(tmp_path / "runs"), "--metric", "wer"])


def test_configs_load():
    for path in sorted(CONFIGS.glob("affect_*.py")):
        assert load_config(path).name == path.stem


def test_preflight_sees_how_a_model_with_users_learns(corpus):
    experiment = Experiment(name="a", data=TINY, task=Affect(model=MODELS["mlp"]))
    verdicts = {check.name: check.verdict for check in check_use(Probe(experiment, corpus))}
    assert verdicts["use.gradients"] == verdicts["use.gradients.inputs"] == "pass"


def test_preflight_lets_a_few_texts_come_twice_and_no_more(corpus):
    """As EmoBank's short sentences do; a test split of copies is another matter."""
    experiment = Experiment(name="a", data=TINY, task=Affect(model=MODELS["mlp"]))
    train, test = (corpus.splits[name].buckets[0] for name in ("train", "test"))

    for copies, wanted in ((0, "pass"), (1, "warn"), (len(test.user_B), "fail"), (-1, "fail")):
        many = jax.tree.map(lambda array: np.concatenate([array] * 40), test)
        text = many.text_BTD + np.random.default_rng(0).normal(0, 1e-3, many.text_BTD.shape).astype(np.float32)
        features = many.features_BTD.copy()
        # -1: one training text over and over.
        text[:copies] = train.text_BTD[:copies] if copies >= 0 else train.text_BTD[:1]
        features[:copies] = train.features_BTD[:copies] if copies >= 0 else train.features_BTD[:1]
        held = dataclasses.replace(many, text_BTD=text, features_BTD=features)
        if copies == len(test.user_B):
            held = jax.tree.map(lambda array, copies=copies: array[:copies], held)
        names = (tuple(f"u/{n}" for n in range(len(held.user_B))),)
        splits = {**corpus.splits, "test": Split(buckets=(held,), names=names)}
        probe = Probe(experiment, dataclasses.replace(corpus, splits=splits))
        assert next(c.verdict for c in check_leaks(probe) if c.name == "leaks.content") == wanted
