"""Landmarks of body, face and hands from videos: with the face model that is at hand, and without the others."""

import numpy as np
import pytest
from videos import write_video

from jaxlip.cli import holistic
from jaxlip.cli.main import guarded
from jaxlip.data.holistic_files import read_holistic
from jaxlip.data.holistic_landmarker import tell_apart
from jaxlip.face.mean_face import mean_face
from jaxlip.holistic.layout import FACE, LEFT_HAND, POSE, RIGHT_HAND


def test_a_video_of_a_face_has_the_face_in_its_place_and_no_hands(face_model, grid_videos, tmp_path, capsys):
    video = sorted(grid_videos.rglob("*.mpg"))[0]
    arguments = [str(video), "--out", str(tmp_path), "--face-model", str(face_model)]
    assert guarded(holistic.run, arguments) == 0, capsys.readouterr().err
    assert "left_hand 0%" in capsys.readouterr().out
    read = read_holistic(next(tmp_path.glob("*.npz")))
    face_TVC = read["landmarks"][:, FACE.points]
    assert (
        read["landmarks"].shape[1:] == (543, 3)
        and read["detected"].mean() > 0.9
        and read["fps"] == pytest.approx(25, 0.02)
    )
    assert np.isnan(read["landmarks"][:, LEFT_HAND.points]).all() and np.isnan(read["landmarks"][:, POSE.points]).all()
    # The eye corners, mouth and chin lie as in a mean face: the order is that of the face mesh.
    width, height = read["size"]
    seen_VC = np.nanmean(face_TVC, axis=0)[[33, 263, 13, 152], :2] * [width, height]
    like_VC = mean_face()[[33, 263, 13, 152], :2]
    for points in (seen_VC, like_VC):
        points -= points.mean(axis=0)
    assert np.corrcoef(seen_VC.ravel(), like_VC.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    "options, what",
    [
        ([], "no model file is given"),
        (["--hand-model", "nowhere.task"], "--hand-model nowhere.task is not there"),
        (["--pose-model", "{bad}"], "is not a pose landmarker"),
    ],
)
def test_models_that_are_missing_or_none_are_one_line(options, what, tmp_path, capsys):
    pytest.importorskip("mediapipe", reason="needs the extra video")
    (tmp_path / "bad.task").write_bytes(b"no model")
    write_video(tmp_path / "clip.mp4", [np.zeros((48, 64, 3), np.uint8)] * 3)
    options = [option.format(bad=tmp_path / "bad.task") for option in options]
    arguments = [str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "out"), *options]
    assert guarded(holistic.run, arguments) == 2
    said = capsys.readouterr().err
    assert what in said and said.count("\n") == 1


def test_hands_are_told_apart_by_the_body_else_by_the_label_of_a_mirrored_picture():
    pose_VC = np.full((33, 3), 0.5, np.float32)
    pose_VC[15, :2], pose_VC[16, :2] = (0.8, 0.5), (0.2, 0.5)
    near_left, near_right = np.full((21, 3), 0.75, np.float32), np.full((21, 3), 0.3, np.float32)
    found = {part.name: hand for part, hand in tell_apart([near_right, near_left], ["Left", "Left"], pose_VC)}
    assert found[LEFT_HAND.name] is near_left and found[RIGHT_HAND.name] is near_right
    blind = np.full((33, 3), np.nan, np.float32)
    assert [part.name for part, _ in tell_apart([near_left], ["Left"], blind)] == [RIGHT_HAND.name]
