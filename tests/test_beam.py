"""Preparation on Beam: everything that it writes and says is what it is without Beam, and the runner is the user's."""

import importlib.util
import pathlib
import sys
import threading
import time

import numpy as np
import pytest
from test_prepare import assert_close, prepared, refused, rewrite
from trees import children, csv_tree, lrs_tree, lrw_tree, on

from jaxlip.data.sentences import load_sentences
from jaxlip.data.store import open_store
from jaxlip.data.vocab import Vocabulary
from jaxlip.data.words import load_words

pytest.importorskip("apache_beam", reason="the extra `beam` is absent")

TWO = ("--runner=DirectRunner", "--direct_num_workers=2", "--direct_running_mode=multi_processing")


def characters(words):
    return Vocabulary.of_characters([" ".join(words)])


def worker_processes() -> set[int]:
    return children(b"sdk_worker")


class Watch:
    """The largest number of Beam's workers at a time."""

    def __enter__(self):
        self.most, self.stopped = 0, threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while not self.stopped.is_set():
            self.most = max(self.most, len(worker_processes()))
            time.sleep(0.05)

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


def assert_equal_shards(a: pathlib.Path, b: pathlib.Path) -> None:
    """The same records in the same order, whatever files they lie in."""
    a, b = open_store(a), open_store(b)
    assert a.records.keys() == b.records.keys()
    for split in a.records:
        assert len(a.records[split]) == len(b.records[split])
        for x, y in zip(a.records[split], b.records[split], strict=True):
            assert x.keys() == y.keys()
            for key in x.keys() - {"words"}:
                np.testing.assert_array_equal(x[key], y[key])
            for key in x["words"]:
                np.testing.assert_array_equal(x["words"][key], y["words"][key])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A table with clips of every kind of defect that is reported, and its shards, made without Beam."""
    root = tmp_path_factory.mktemp("plain")
    csv_tree(root / "own")
    (root / "own/faces/004.npz").unlink()
    (root / "own/faces/005.npz").write_bytes(b"damaged")
    (root / "own/faces/copy.npz").write_bytes((root / "own/faces/006.npz").read_bytes())

    def change(rows):
        rows[1]["label"] = "söylendi"
        return [*rows, {**rows[6], "clip": "faces/copy"}]

    table = rewrite(root / "own", change)
    return table, root / "shards", prepared(table, root / "shards")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts processes in /proc")
def test_two_workers_write_what_one_process_writes(plain, tmp_path):
    table, shards, manifest = plain
    with Watch() as watch:
        got = prepared(table, tmp_path / "out", "--beam", *TWO)
    assert watch.most == 2 and not worker_processes()
    # Fingerprint, counts, names of what was left out and of what is odd, statistics.
    assert got == manifest
    assert manifest["left_out"].keys() > {"no landmark file"} and "duplicates_within_a_split" in manifest["checks"]
    assert_equal_shards(shards, tmp_path / "out")
    assert load_words(on("prepared", shards)).fingerprint == load_words(on("prepared", tmp_path / "out")).fingerprint
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clips", "manifest.json"]


def test_words_in_folders_and_any_number_of_shards(tmp_path):
    lrw_tree(tmp_path / "data")
    want = prepared(tmp_path / "data", tmp_path / "a", source="lrw")
    assert prepared(tmp_path / "data", tmp_path / "b", "--shards", 3, "--beam", source="lrw") == want
    assert len(list((tmp_path / "b").glob("clips/1.0.0/clips-train*"))) == 3
    a, b = (on("prepared", tmp_path / name) for name in "ab")
    assert_close(load_words(b), load_words(a), atol=0)


def test_sentences(tmp_path):
    lrs_tree(tmp_path / "data")
    want = prepared(tmp_path / "data", tmp_path / "a", "--speaker-disjoint", source="lrs")
    assert prepared(tmp_path / "data", tmp_path / "b", "--speaker-disjoint", "--beam", source="lrs") == want
    a, b = (load_sentences(on("prepared", tmp_path / name), characters) for name in "ab")
    assert_close(b, a, atol=0)


def test_options_reach_the_runner(plain, tmp_path):
    import beam_spy

    flags = ["--runner=beam_spy.Spy", "--region=europe-west4", "--job_endpoint", "host:8099", "--max_num_workers=7"]
    assert prepared(plain[0], tmp_path / "out", "--beam", *flags, "--of_that_runner=x") == plain[2]
    (asked,) = beam_spy.asked
    assert (asked["region"], asked["endpoint"], asked["workers"]) == ("europe-west4", "host:8099", 7)
    assert asked["all"]["of_that_runner"] == "x"


@pytest.mark.parametrize(
    "flags,says",
    [
        (["--runner=Walker"], "Unexpected pipeline runner: Walker"),
        (["--runner=no.such.Runner"], "No module named"),
        (["--direct_num_workers=two"], "invalid int value: 'two'"),
        (["--direct_workers=2"], "DirectRunner has no option direct_workers"),
        (["2"], "options of Beam, which begin with --"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(plain, tmp_path, capsys, flags, says):
    arguments = ("--source", "manifest", "--root", plain[0], "--preset", "lips40", "--out", tmp_path / "out")
    assert says in refused(capsys, *arguments, "--beam", *flags)
    assert not list(tmp_path.iterdir())


def test_dishonest_and_empty_splits_are_refused_as_without_beam(tmp_path, capsys):
    csv_tree(tmp_path)
    base = ("--source", "manifest", "--preset", "lips40", "--out", tmp_path / "out", "--root")
    (tmp_path / "faces/copy.npz").write_bytes((tmp_path / "faces/000.npz").read_bytes())
    twice = rewrite(tmp_path, lambda rows: [*rows, {**rows[0], "clip": "faces/copy", "split": "test"}])
    assert "1 clips are in several splits, faces/000 (train) = faces/copy (test)" in refused(
        capsys, *base, twice, "--beam"
    )
    untrained = rewrite(tmp_path, lambda rows: [row for row in rows if row["split"] == "test"])
    assert "no clip of the train split can be used" in refused(capsys, *base, untrained, "--beam")
    for path in tmp_path.glob("faces/*.npz"):
        if path.stem in {
            row.split(",")[0][-3:] for row in (tmp_path / "manifest.csv").read_text().split() if ",val," in row
        }:
            path.unlink()
    lost = tmp_path / "manifest.csv"
    assert "no clip of the val split can be used" in refused(capsys, *base, lost, "--beam")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*unfinished*"))


def test_workers_are_the_runners(plain, tmp_path, capsys):
    arguments = ("--source", "manifest", "--root", plain[0], "--out", tmp_path / "out", "--workers", 2, "--beam")
    assert "--direct_num_workers=2" in refused(capsys, *arguments)


def test_without_the_extra_the_command_names_it(plain, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    arguments = ("--source", "manifest", "--root", plain[0], "--out", tmp_path / "out", "--beam")
    assert "pip install 'jaxlip[beam]'" in refused(capsys, *arguments)
