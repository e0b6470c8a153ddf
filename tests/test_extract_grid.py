"""`jaxlip extract` on the GRID videos of the shared data, against landmarks that were extracted elsewhere."""

import json
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest

from jaxlip.cli import extract
from jaxlip.cli.main import guarded
from jaxlip.data.clips import read_raw_landmarks
from jaxlip.data.sources import grid

VIDEOS = 53
README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture(scope="module")
def known(grid_videos):
    """Clip -> arrays of the pack beside the videos."""
    folder = grid_videos.parent
    sys.path.insert(0, str(folder))
    try:
        from unpack import read_pack
    finally:
        sys.path.remove(str(folder))
    names = {path.stem for path in grid_videos.iterdir()}
    packs = sorted(folder.glob("landmarks-*.pack"))
    return {name: arrays for pack in packs for name, arrays in read_pack(pack) if name in names}


@pytest.mark.slow
def test_all_videos_of_grid_agree_with_the_pack(grid_videos, face_model, known, tmp_path):
    assert guarded(extract.run, [str(grid_videos), "--out", str(tmp_path), "--face-model", str(face_model)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    clips = {clip["clip"].removesuffix(".mpg"): clip for clip in report["per_clip"]}
    assert clips.keys() == known.keys() and len(known) == VIDEOS
    assert report["failed"] == 0

    error_px, worst_px, otherwise_detected = {}, 0.0, {}
    for name, there in known.items():
        here = read_raw_landmarks(tmp_path / f"{name}.npz")
        assert (here["fps"], here["size"]) == (there["fps"], tuple(there["size"]))
        both_T = here["detected"] & there["detected"]
        if differ := int((here["detected"] != there["detected"]).sum()):
            otherwise_detected[name] = differ
        difference = (here["landmarks"] - there["landmarks"])[both_T][..., :2] * there["size"]
        distance = np.linalg.norm(difference, axis=-1)
        error_px[name], worst_px = float(distance.mean()), max(worst_px, float(distance.max()))
    mean = float(np.mean(list(error_px.values())))
    worst = max(error_px, key=lambda name: error_px[name])
    print(f"mean error {mean:.4f} px; worst clip {worst} {error_px[worst]:.4f} px; worst point {worst_px:.3f} px")
    print(f"frames with a face in one of the two only: {otherwise_detected}")
    assert mean < 0.05 and error_px[worst] < 0.5
    # Whether a smear is a face depends on MediaPipe's version.
    assert otherwise_detected.keys() <= {"pbio7a"} and sum(otherwise_detected.values()) <= 2

    # The two with damaged frames, and no other.
    damaged = {
        name: clip["damage"]["looks_damaged"] for name, clip in clips.items() if clip["damage"]["damaged_frames"]
    }
    assert damaged == {"bbizzn": "0-11", "pbio7a": "0-71"}
    assert [name for name, clip in clips.items() if clip["status"] == "rejected"] == ["pbio7a"]
    page = (tmp_path / "report.html").read_text()
    assert all(f"{name}.mpg" in page and f"frames {frames}" in page for name, frames in damaged.items())
    assert {name for name, clip in clips.items() if clip["frames"] == 74} == {"lrae3s", "srwi5a"}


def test_the_command_of_the_readme_makes_what_training_reads(grid_videos, face_model, tmp_path, monkeypatch):
    (command,) = re.findall(r"^jaxlip extract (.*)$", README, re.MULTILINE)
    (tmp_path / "VIDEOS/s1").mkdir(parents=True)
    shutil.copy(grid_videos / "bbaf3s.mpg", tmp_path / "VIDEOS/s1")
    (tmp_path / "GRID/align/s1").mkdir(parents=True)
    aligns = json.loads((grid_videos.parent / "align.json").read_text())
    (tmp_path / "GRID/align/s1/bbaf3s.align").write_text(aligns["bbaf3s"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXLIP_FACE_MODEL", str(face_model))
    assert guarded(extract.run, command.split()) == 0
    clip = grid.read_clip(tmp_path / "GRID", "s1/bbaf3s")
    assert clip.detected.all() and len(clip.detected) == 75
