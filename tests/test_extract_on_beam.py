"""Videos to shards on Beam: the landmark files of a worker are those of the command."""

import shutil

import numpy as np
import pytest
from test_beam import TWO
from test_prepare import prepared, refused
from trees import write_rows

pytest.importorskip("apache_beam", reason="the extra `beam` is absent")
pytest.importorskip("mediapipe", reason="the extra `video` is absent")
pytest.importorskip("av", reason="the extra `video` is absent")
extract = pytest.importorskip("jaxlip.data.extract", reason="extraction is absent")


@pytest.fixture
def corpus(grid_videos, tmp_path):
    """Two GRID videos, one that is none, and a table that splits them."""
    (tmp_path / "videos/s1").mkdir(parents=True)
    names = sorted(path.stem for path in grid_videos.glob("*.mpg"))[:2]
    for name in names:
        shutil.copy(grid_videos / f"{name}.mpg", tmp_path / "videos/s1")
    (tmp_path / "videos/s1/letter.mp4").write_text("dear")
    splits = ("train", "val")
    rows = [{"clip": f"s1/{name}", "split": s, "label": "bin"} for name, s in zip(names, splits, strict=True)]
    write_rows(tmp_path / "manifest.csv", [*rows, {"clip": "s1/letter", "split": "train", "label": "bin"}])
    return tmp_path, names


def test_videos_to_shards_with_two_workers(corpus, face_model, monkeypatch, capsys):
    root, names = corpus
    monkeypatch.setenv("JAXLIP_FACE_MODEL", str(face_model))
    where = ("--landmarks", root / "landmarks")
    manifest = prepared(root / "manifest.csv", root / "out", *where, "--videos", root / "videos", "--beam", *TWO)
    assert manifest["splits"] == {"train": 1, "val": 1} and manifest["counts"]["left_out"] == {"no landmark file": 1}
    said = capsys.readouterr().out
    assert "failed: s1/letter.mp4: " in said and "extracted 2 of 3 videos" in said
    with extract.Extractor(extract.Extraction(), face_model) as extractor:
        extractor.extract(root / f"videos/s1/{names[0]}.mpg", root / "alone.npz")
    with np.load(root / "alone.npz") as want, np.load(root / f"landmarks/s1/{names[0]}.npz") as got:
        np.testing.assert_array_equal(want["landmarks"], got["landmarks"])
    assert sorted(path.name for path in (root / "landmarks").iterdir()) == ["s1"]
    # Without Beam, the same shards of the same landmarks.
    assert prepared(root / "manifest.csv", root / "plain", *where)["fingerprint"] == manifest["fingerprint"]


def test_videos_need_a_place_for_landmarks_and_beam(corpus, capsys):
    root, _ = corpus
    arguments = ("--source", "manifest", "--root", root / "manifest.csv", "--out", root / "out", "--videos", root)
    assert "--videos needs --landmarks DIR" in refused(capsys, *arguments)
    assert "--videos needs --landmarks DIR" in refused(capsys, *arguments, "--beam")
