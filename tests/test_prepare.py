"""Shards: what goes in comes out, the same from any number of shards and workers; and what is refused."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import WORDS, children, csv_tree, lrs_tree, lrw_tree, on, viseme_clips, write_rows

from jaxlip.cli import evaluate, prepare, train
from jaxlip.cli.main import guarded
from jaxlip.data.clips import Clip, DamagedClip
from jaxlip.data.face import FaceData
from jaxlip.data.records import LEVELS, decode, describe, encode, kept_ids
from jaxlip.data.sentences import load_sentences
from jaxlip.data.store import builder_class
from jaxlip.data.vocab import Vocabulary
from jaxlip.data.words import load_words
from jaxlip.errors import UserError
from jaxlip.face.normalize import STABLE_IDS

tfds = pytest.importorskip("tensorflow_datasets", reason="the extra `data` is absent")

IDS = kept_ids("lips40")
TINY = str(pathlib.Path(__file__).with_name("tiny.py"))
CTC = str(pathlib.Path(__file__).parents[1] / "configs/grid_ctc.py")


def characters(words):
    return Vocabulary.of_characters([" ".join(words)])


def prepared(root, out, *extra, source="manifest", preset="lips40") -> dict:
    """Prepares by the command, and returns the manifest."""
    where = ["--root", str(root)] if root else []
    arguments = ["--source", source, *where, "--out", str(out), "--preset", preset, *map(str, extra)]
    prepare.run(arguments)
    return json.loads((out / "manifest.json").read_text())


def refused(capsys, *arguments) -> str:
    """The one line of a preparation that must fail."""
    assert guarded(prepare.run, list(map(str, arguments))) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said
    return said


# Records


def clip_of(landmarks_TVC, **changes) -> Clip:
    values = {
        "name": "a",
        "split": "train",
        "landmarks": landmarks_TVC.astype(np.float32),
        "detected": np.isfinite(landmarks_TVC).all(axis=(1, 2)),
        "fps": 25.0,
        "size": (360, 288),
    }
    return Clip(**values | changes)


@given(seed=st.integers(0, 99), frames=st.integers(1, 9), spread=st.floats(0, 4), lost=st.floats(0, 0.8))
@settings(deadline=None, max_examples=40)
def test_rounding_is_at_most_half_a_step_and_lost_frames_stay_lost(seed, frames, spread, lost):
    rng = np.random.default_rng(seed)
    landmarks_TVC = 0.5 + spread * rng.normal(size=(frames, 478, 3)).clip(-2, 2)
    landmarks_TVC[1:][rng.random(frames - 1) < lost] = np.nan
    clip = clip_of(landmarks_TVC)
    record = encode(clip, IDS, 3)
    back = decode(record, split="train", ids=IDS)
    want_TVC = clip.landmarks[:, IDS]
    assert back.number == 3 and back.ids == IDS and record["landmarks"].dtype == np.uint16
    np.testing.assert_array_equal(back.detected, clip.detected)
    np.testing.assert_array_equal(np.isnan(back.landmarks), np.isnan(want_TVC))
    error_TVC = np.abs(back.landmarks - want_TVC)[clip.detected]
    span_C = np.ptp(want_TVC[clip.detected], axis=(0, 1))
    # Half a step, and what float32 cannot hold.
    assert (error_TVC <= 0.5 * span_C / LEVELS + 4e-7 * (1 + np.abs(want_TVC[clip.detected]))).all()
    worst = np.abs(back.landmarks.astype(float) - want_TVC)[clip.detected][..., :2] * [360, 288]
    assert describe(clip, record, IDS).rounding[0] == pytest.approx(worst.max())


def test_a_record_keeps_everything_else():
    (clip,) = [clip for clip in viseme_clips(WORDS) if clip.name.endswith("0003") and clip.split == "train"]
    back = decode(encode(clip, IDS, 0), split=clip.split, ids=IDS)
    for field in ("name", "split", "speaker", "fps", "size", "words"):
        assert getattr(back, field) == getattr(clip, field)
    assert set(STABLE_IDS) <= set(IDS) and len(IDS) == len(set(IDS))


def test_clips_that_nothing_can_be_made_of():
    nothing_TVC = np.full((4, 478, 3), np.nan)
    with pytest.raises(DamagedClip, match="no face in any frame"):
        encode(clip_of(nothing_TVC), IDS, 0)
    with pytest.raises(DamagedClip, match="picture widths away"):
        encode(clip_of(np.full((4, 478, 3), 11.0)), IDS, 0)


def test_jitter_is_that_of_white_noise():
    rng = np.random.default_rng(0)
    still_TVC = np.broadcast_to(rng.normal(size=(478, 3)), (400, 478, 3))
    noisy = clip_of(still_TVC + rng.normal(0, 0.001, still_TVC.shape))
    square, count = describe(noisy, encode(noisy, IDS, 0), IDS).jitter
    # In pixels, over x (360) and y (288).
    assert np.sqrt(square / count) == pytest.approx(0.001 * np.sqrt((360**2 + 288**2) / 2), rel=0.05)


# Shards


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A CSV corpus and its shards."""
    root = tmp_path_factory.mktemp("words")
    csv_tree(root / "own")
    return root / "own", root / "shards", prepared(root / "own", root / "shards")


def assert_close(got, want, atol) -> None:
    """The same examples in the same order, landmarks up to rounding."""
    assert got.splits.keys() == want.splits.keys()
    for split in want.splits:
        a, b = got.splits[split], want.splits[split]
        assert a.names == b.names
        for x, y in zip(a.buckets, b.buckets, strict=True):
            np.testing.assert_allclose(x.landmarks_BTVC, y.landmarks_BTVC, atol=atol, rtol=0)
            for field in ("frames_BT", "detected_BT", "speech_BT", "target", "examples_B"):
                jax.tree.map(np.testing.assert_array_equal, getattr(x, field), getattr(y, field))


def test_training_data_from_shards_are_those_of_the_source(words):
    root, shards, manifest = words
    want, got = load_words(on("manifest", root)), load_words(on("prepared", shards))
    # In inter-ocular distances; the noise of the corpus is 4e-3.
    assert_close(got, want, atol=1e-4)
    assert manifest["statistics"]["rounding"]["max_interocular"] < 1e-4
    assert got.spec.classes == want.spec.classes == tuple(manifest["vocabulary"])
    assert manifest["splits"] == {"train": 16, "val": 8, "test": 8} and manifest["preset"] == "lips40"


def test_grid_words_and_sentences_from_shards(grid_root, tmp_path):
    manifest = prepared(grid_root, tmp_path / "shards", source="grid")
    grid, shards = on("grid", grid_root), on("prepared", tmp_path / "shards")
    assert_close(load_words(shards), load_words(grid), atol=1e-4)
    want, got = load_sentences(grid, characters), load_sentences(shards, characters)
    assert_close(got, want, atol=1e-4)
    assert got.spec.slots == want.spec.slots != () and got.spec.vocabulary == want.spec.vocabulary
    figures = manifest["statistics"]
    assert figures["rounding"]["rms_pixels"] < 0.05 * figures["jitter"]["rms_pixels"]
    assert manifest["checks"]["speakers_in_several_splits"] == ["s1"]
    for normalize in ("frame", "clip"):
        a, b = (load_words(dataclasses.replace(x, normalize=normalize, smooth=0.5, max_gap=2)) for x in (shards, grid))
        assert_close(a, b, atol=1e-4)


def test_fingerprint_does_not_depend_on_shards_workers_or_order(words, tmp_path):
    root, _, manifest = words
    many = prepared(root, tmp_path / "many", "--shards", 3, "--workers", 2)
    assert len(list((tmp_path / "many/clips/1.0.0").glob("clips-train.array_record-*"))) == 3
    lines = (root / "manifest.csv").read_text().splitlines()
    (tmp_path / "turned.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    turned = prepared(tmp_path / "turned.csv", tmp_path / "turned", "--landmarks", root)
    assert many["fingerprint"] == turned["fingerprint"] == manifest["fingerprint"]
    a, b = (load_words(on("prepared", tmp_path / name)) for name in ("many", "turned"))
    assert a.fingerprint == load_words(on("prepared", words[1])).fingerprint
    # The order of examples is the source's: turned round here.
    assert a.splits["train"].names[0] == b.splits["train"].names[0][::-1]


def test_fingerprint_feels_one_word_one_time_and_one_landmark(words, tmp_path):
    root, _, manifest = words
    seen = {manifest["fingerprint"]}
    text = (root / "manifest.csv").read_text()
    first, *rest = text.splitlines()[1].split(",")
    label, start = rest[1], rest[2]
    for number, (old, new) in enumerate([(f",{label},", ",other,"), (start, f"{float(start) - 0.01!r}")]):
        (tmp_path / f"{number}.csv").write_text(text.replace(old, new, 1))
        seen.add(prepared(tmp_path / f"{number}.csv", tmp_path / f"out{number}", "--landmarks", root)["fingerprint"])
    (tmp_path / "faces").mkdir()
    for path in root.glob("faces/*.npz"):
        (tmp_path / "faces" / path.name).write_bytes(path.read_bytes())
    with np.load(tmp_path / f"{first}.npz") as file:
        arrays = {name: file[name].copy() for name in file.files}
    arrays["landmarks"][np.flatnonzero(arrays["detected"])[0], 0, 0] += 1e-3
    np.savez(tmp_path / f"{first}.npz", **arrays)
    (tmp_path / "manifest.csv").write_text(text)
    seen.add(prepared(tmp_path, tmp_path / "moved")["fingerprint"])
    assert len(seen) == 4


READ_BY_TFDS_ALONE = """
import sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
source = builder.as_data_source(split="train")
record = source[0]
assert "jaxlip" not in sys.modules and "tensorflow" not in sys.modules
print(builder.name, builder.version, builder.info.file_format.value, len(source), record["landmarks"].dtype)
print(sorted(record), builder.info.splits["train"].num_examples)
"""


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_shards_are_an_ordinary_tfds_data_set_without_tensorflow(words):
    builder = builder_class()
    assert issubclass(builder, tfds.core.GeneratorBasedBuilder) and builder.name == "clips"
    source = tfds.builder_from_directory(words[1] / "clips/1.0.0").as_data_source(split="train")
    record = source[0]
    assert len(source) == 16 and record["landmarks"].shape[1:] == (len(IDS), 3)
    assert record["landmarks"].dtype == np.uint16 and record["detected"].shape == record["landmarks"].shape[:1]
    # A stranger who has neither jaxlip nor TensorFlow.
    command = [sys.executable, "-W", "ignore", "-c", READ_BY_TFDS_ALONE, str(words[1] / "clips/1.0.0")]
    said = subprocess.run(command, cwd="/", capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    kind, fields = said.stdout.splitlines()
    assert kind == "clips 1.0.0 array_record 16 uint16"
    assert fields == f"{sorted(encode(viseme_clips(WORDS)[0], IDS, 0))} 16"


def test_a_second_preparation_needs_overwrite_and_foreign_folders_are_left_alone(words, tmp_path, capsys):
    root, shards, manifest = words
    base = ("--source", "manifest", "--root", root, "--preset", "lips40", "--out")
    assert "--overwrite replaces them" in refused(capsys, *base, shards)
    (tmp_path / "letter.txt").write_text("dear")
    assert "holds no prepared data" in refused(capsys, *base, tmp_path, "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert prepared(root, shards, "--overwrite")["fingerprint"] == manifest["fingerprint"]


def test_what_shards_do_not_hold_is_named(words, tmp_path):
    shards = words[1]
    for config, says in [
        (dataclasses.replace(on("prepared", shards), preset="symmetric88"), "holds the points of preset lips40, not"),
        (dataclasses.replace(on("prepared", shards), normalize="minmax"), "needs the whole face"),
        (on("prepared", tmp_path), "holds no manifest.json; `jaxlip prepare`"),
        (FaceData(source="prepared"), "data.root is not set"),
    ]:
        with pytest.raises(UserError, match=says):
            load_words(config)


def test_damaged_shards_are_told(words, tmp_path):
    for name, damage, says in [
        ("gone", lambda path: path.unlink(), "clips-val.array_record-00000-of-00001 is missing"),
        ("json", lambda path: (path.parents[2] / "manifest.json").write_text("{"), "is not JSON"),
        ("old", lambda path: (path.parents[2] / "manifest.json").write_text('{"format": 0}'), "not a manifest of"),
    ]:
        prepared(words[0], tmp_path / name)
        damage(next((tmp_path / name).glob("clips/1.0.0/clips-val*")))
        with pytest.raises(UserError, match=says):
            load_words(on("prepared", tmp_path / name))


def test_without_the_extra_the_command_names_it(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    said = refused(capsys, "--source", "manifest", "--root", words[0], "--out", tmp_path / "out")
    assert "pip install 'jaxlip[data]'" in said and not (tmp_path / "out").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_a_killed_worker_is_told_and_nothing_is_left(words, tmp_path, capsys):
    def kill():
        while not (found := children(b"spawn_main")):
            time.sleep(0.01)
        os.kill(found.pop(), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    said = refused(capsys, "--source", "manifest", "--root", words[0], "--out", tmp_path / "out", "--workers", 2)
    killer.join()
    assert "a process that reads clips was killed" in said and not list(tmp_path.iterdir())


# Honesty


def rewrite(root: pathlib.Path, change) -> pathlib.Path:
    """A table beside the corpus's own, its rows changed."""
    header, *lines = (root / "manifest.csv").read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    path = root / "changed.csv"
    write_rows(path, change(rows) or rows)
    return path


def test_a_clip_in_two_splits_is_refused_unless_allowed(tmp_path, capsys):
    csv_tree(tmp_path)
    (tmp_path / "faces/copy.npz").write_bytes((tmp_path / "faces/000.npz").read_bytes())
    table = rewrite(tmp_path, lambda rows: [*rows, {**rows[0], "clip": "faces/copy", "split": "test"}])
    base = ("--source", "manifest", "--root", table, "--preset", "lips40", "--out", tmp_path / "out")
    said = refused(capsys, *base)
    assert "1 clips are in several splits, faces/000 (train) = faces/copy (test)" in said
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*unfinished*"))
    manifest = prepared(table, tmp_path / "out", "--allow", "duplicates")
    assert manifest["allowed"] == ["duplicates"]
    assert manifest["checks"]["duplicates_across_splits"] == ["faces/000 (train) = faces/copy (test)"]
    assert any("scores may not be honest" in note for note in load_words(on("prepared", tmp_path / "out")).notes)


def test_duplicates_within_a_split_are_reported(tmp_path):
    csv_tree(tmp_path)
    (tmp_path / "faces/copy.npz").write_bytes((tmp_path / "faces/000.npz").read_bytes())
    table = rewrite(tmp_path, lambda rows: [*rows, {**rows[0], "clip": "faces/copy"}])
    assert len(prepared(table, tmp_path / "out")["checks"]["duplicates_within_a_split"]) == 1


def test_speaker_disjoint_is_a_claim_that_is_checked(tmp_path, capsys):
    csv_tree(tmp_path)
    base = ("--source", "manifest", "--preset", "lips40", "--out", tmp_path / "out", "--speaker-disjoint", "--root")
    assert prepared(tmp_path, tmp_path / "yes", "--speaker-disjoint")["speaker_disjoint"] is True
    shared = rewrite(tmp_path, lambda rows: [{**row, "speaker": "ann"} for row in rows])
    assert "1 speakers are in several splits (ann)" in refused(capsys, *base, shared)
    unknown = rewrite(tmp_path, lambda rows: [{**row, "speaker": ""} for row in rows])
    assert "does not say who speaks in some clips of test, train, val" in refused(capsys, *base, unknown)
    assert prepared(unknown, tmp_path / "out", "--speaker-disjoint", "--allow", "speakers")["allowed"] == ["speakers"]


def test_oddities_are_counted_by_kind_with_names(tmp_path, capsys):
    csv_tree(tmp_path)
    for name, change in [("001", "half"), ("002", "none")]:
        with np.load(tmp_path / f"faces/{name}.npz") as file:
            arrays = {key: file[key].copy() for key in file.files}
        arrays["detected"][slice(None) if change == "none" else slice(len(arrays["detected"]) // 2, None)] = False
        np.savez(tmp_path / f"faces/{name}.npz", **arrays)

    with np.load(tmp_path / "faces/007.npz") as file:
        arrays = {key: file[key].copy() for key in file.files}
    arrays["landmarks"][np.flatnonzero(arrays["detected"])[:2], 5, 1] = np.nan
    np.savez(tmp_path / "faces/007.npz", **arrays)

    def change(rows):
        rows[3] |= {"start": "50", "end": "51"}
        next(row for row in rows if row["split"] == "test")["label"] = "unheard"

    manifest = prepared(rewrite(tmp_path, change), tmp_path / "out")
    assert manifest["checks"] == {
        "words_outside_of_clip": ["faces/003"],
        "few_faces": ["faces/001"],
        "faces_with_nan_landmarks": ["faces/007"],
        "classes_without_training_clips": ["unheard"],
    }
    assert manifest["counts"] == {"clips": 31, "left_out": {"no face in any frame": 1}}
    assert manifest["left_out"] == {"no face in any frame": ["faces/002"]}
    said = capsys.readouterr().out
    assert re.search(r"left out 1 \(faces/002\): no face", said) and "classes without training clips: 1" in said


def test_labels_outside_the_grammar_are_reported(grid_root, tmp_path):
    root = tmp_path / "grid"
    for path in (*grid_root.rglob("*.npz"), *grid_root.rglob("*.align")):
        to = root / path.relative_to(grid_root)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())
    (root / "splits.json").write_text((grid_root / "splits.json").read_text())
    train = json.loads((root / "splits.json").read_text())["train"][0]
    align = root / f"align/s1/{train}.align"
    word = align.read_text().splitlines()[1].split()[2]
    align.write_text(align.read_text().replace(word, "grab"))
    assert prepared(root, tmp_path / "out", source="grid")["checks"]["labels_outside_the_vocabulary"] == ["grab"]


def test_a_corpus_without_training_clips_is_refused(tmp_path, capsys):
    csv_tree(tmp_path)
    table = rewrite(tmp_path, lambda rows: [row for row in rows if row["split"] == "test"])
    said = refused(capsys, "--source", "manifest", "--root", table, "--out", tmp_path / "out")
    assert "no clip of the train split can be used (there are none)" in said


# From folders to runs


@pytest.mark.parametrize("source,tree", [("lrw", lrw_tree), ("manifest", csv_tree)])
def test_words_prepare_train_and_are_scored(tmp_path, source, tree, capsys):
    tree(tmp_path / "data")
    prepared(tmp_path / "data", tmp_path / "shards", source=source)
    assert_close(load_words(on("prepared", tmp_path / "shards")), load_words(on(source, tmp_path / "data")), atol=1e-4)
    small = ["--config", TINY, "--runs", str(tmp_path / "runs"), "--train.epochs", "1", "--data.preset", "lips40"]
    train.run([*small, "--name", "shards", "--data.source", "prepared", "--data.root", str(tmp_path / "shards")])
    assert json.loads((tmp_path / "runs/shards/metrics.jsonl").read_text())["train/loss"] > 0
    evaluate.run(["--run", "shards", "--runs", str(tmp_path / "runs")])
    assert "examples 8" in capsys.readouterr().out


@pytest.mark.slow
def test_sentences_prepare_and_train(tmp_path):
    lrs_tree(tmp_path / "data")
    prepared(tmp_path / "data", tmp_path / "shards", "--speaker-disjoint", source="lrs")
    want, got = (
        load_sentences(on(name, tmp_path / where), characters)
        for name, where in [("lrs", "data"), ("prepared", "shards")]
    )
    assert_close(got, want, atol=1e-4)
    small = ["--config", CTC, "--runs", str(tmp_path / "runs"), "--train.epochs", "1", "--task.model.hidden", "8"]
    small += ["--data.preset", "lips40", "--train.batch", "4", "--data.buckets", "75", "--name", "shards"]
    train.run([*small, "--data.source", "prepared", "--data.root", str(tmp_path / "shards")])
    assert json.loads((tmp_path / "runs/shards/metrics.jsonl").read_text())["train/loss"] > 0
