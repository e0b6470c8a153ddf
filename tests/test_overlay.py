"""Videos in, overlay videos out; and reading from a file that plays as if it were a camera."""

import json
import pathlib
import re
import shlex
import time

import numpy as np
import pytest
from test_predict import timed
from videos import av, read_images, write_video

from jaxlip.cli import live as live_command
from jaxlip.cli import predict
from jaxlip.cli.main import guarded
from jaxlip.data.extract import Extraction, Extractor
from jaxlip.data.tracking import FaceTracker
from jaxlip.errors import UserError
from jaxlip.face.presets import LIPS_OUTER, preset_ids
from jaxlip.predict import overlay
from jaxlip.predict.camera import Camera
from jaxlip.predict.live import Reading, live
from jaxlip.predict.reader import Reader
from jaxlip.predict.recording import Recording
from jaxlip.tasks.answer import Answer

FEW = 16


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Sixteen frames, 160 x 120, each of its own grey."""
    images = [np.full((120, 160, 3), 10 * i, np.uint8) for i in range(FEW)]
    return write_video(tmp_path_factory.mktemp("video") / "grey.mp4", images)


def recorded(path, frames, size=(160, 120), x=0.5):
    """A face that is seen in every frame but the first: all its points in one place, the lips a square around it."""
    landmarks = np.full((frames, 478, 3), 0.5, np.float32)
    landmarks[..., 0] = x
    lips = landmarks[:, list(LIPS_OUTER)]
    lips[:, :, 0] = x + 0.1 * np.tile([-1, 1, 1, -1], 5)
    lips[:, :, 1] = 0.3 + 0.1 * np.tile([-1, -1, 1, 1], 5)
    landmarks[:, list(LIPS_OUTER)] = lips
    seen = np.arange(frames) > 0
    return Recording(path=path, landmarks=landmarks, detected=seen, times=np.arange(frames) / 25, size=size, fps=25.0)


def test_points_lips_and_words_are_drawn_where_and_when_they_belong(video, tmp_path):
    answer = timed((0.32, 0.44))
    overlay.write_overlay(recorded(video, FEW), answer, tmp_path / "new/o.mp4", preset_ids("anatomical88"))
    images = read_images(tmp_path / "new/o.mp4")
    assert len(images) == FEW and images[0].shape == (480, 640, 3)
    with av.open(str(tmp_path / "new/o.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx(np.arange(FEW) / 25, abs=1e-3)
    grey = np.array([np.median(image[:40]) for image in images])
    assert np.abs(grey - 10 * np.arange(FEW)).max() < 4
    # The point in the middle of the picture, bright but in the first frame; the corner of the lips; the subtitle.
    middle = np.array([image[238:243, 318:323].max() for image in images])
    assert middle[0] < 10 and (middle[1:] > 150).all()
    corner = images[5][94:99, 250:390]
    assert corner[..., 0].max() > corner[..., 2].max() + 60
    bands = [int(image[410:470].max()) > 230 for image in images]
    # From 0.3 s before the word.
    assert bands == [i / 25 >= 0.02 for i in range(FEW)]
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new/o.mp4"]


def test_a_turned_video_comes_out_upright(tmp_path):
    images = [np.zeros((96, 128, 3), np.uint8) for _ in range(4)]
    for image in images:
        image[:, :64] = 200
    path = write_video(tmp_path / "turned.mp4", images, rotation=90)
    overlay.write_overlay(recorded(path, 4, (96, 128)), timed(), tmp_path / "o.mp4", ())
    found = read_images(tmp_path / "o.mp4")[0]
    assert found.shape == (640, 480, 3)
    top, bottom = np.median(found[:200]), np.median(found[440:])
    assert abs(int(top) - int(bottom)) > 150
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert not any(item.type.name == "DISPLAYMATRIX" for item in next(container.decode(video=0)).side_data)


def test_another_encoder_where_h264_is_missing(video, tmp_path, monkeypatch):
    monkeypatch.setattr(overlay, "CODECS", (("no such encoder", {}), *overlay.CODECS[1:]))
    overlay.write_overlay(recorded(video, FEW), timed(), tmp_path / "o.mp4", ())
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    monkeypatch.setattr(overlay, "CODECS", (("no such encoder", {}),))
    with pytest.raises(UserError, match="no encoder"):
        overlay.write_overlay(recorded(video, FEW), timed(), tmp_path / "p.mp4", ())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        overlay.write_overlay(recorded(video, FEW), timed(), tmp_path / "file/o.mp4", ())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "o.mp4"]


def test_long_words_fit_into_small_pictures():
    long = Answer(text="", words=tuple(timed((0, 1)).words) * 40)
    painter = overlay.Painter((64, 48), 1.0, ())
    painted = painter.paint(np.zeros((48, 64, 3), np.uint8), None, overlay.cues(long)[0], 0.5)
    assert painted.shape == (480, 640, 3) and painted[:, :5].max() == 0 and painted[:, -5:].max() == 0


# From videos to answers


@pytest.fixture(scope="module")
def grid_clip(grid_videos, tmp_path_factory):
    """Sixteen frames of a GRID clip."""
    path = tmp_path_factory.mktemp("grid") / "clip.mp4"
    return write_video(path, read_images(grid_videos / "bbaf3s.mpg", FEW))


def test_a_video_and_its_landmarks_are_read_alike(runs_to_ask, grid_clip, face_model, tmp_path, capfd):
    with Extractor(Extraction(), face_model) as extractor:
        extractor.extract(grid_clip, tmp_path / "clip.npz")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos = [str(grid_clip), str(tmp_path / "broken.mp4"), str(tmp_path / "clip.npz")]
    common = ["--run", "tiny", "--runs", str(runs_to_ask), "--face-model", str(face_model)]
    capfd.readouterr()
    assert guarded(predict.run, [*common, *videos, "--json", str(tmp_path / "said.json")]) == 2
    captured = capfd.readouterr()
    assert captured.err == f"jaxlip: 1 of 3 videos failed, such as {videos[1]}.\n"
    video, broken, landmarks = json.loads((tmp_path / "said.json").read_text())["videos"]
    assert "not a readable video" in broken["reason"] and broken["reason"] in captured.out
    assert len(video["likeliest"]) == 4 and video["likeliest"] == landmarks["likeliest"]
    out = tmp_path / "overlays"
    assert guarded(predict.run, [*common, str(grid_clip), "--overlay", str(out)]) == 0
    images = read_images(out / "clip.mp4")
    assert len(images) == FEW and images[0].shape == (480, 600, 3)
    assert f"wrote {out / 'clip.mp4'}" in capfd.readouterr().out


def test_the_commands_of_the_readme(runs_to_ask, grid_clip, face_model, tmp_path, monkeypatch, capsys):
    readme = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXLIP_FACE_MODEL", str(face_model))
    (tmp_path / "runs").symlink_to(runs_to_ask)
    for name, command in (("predict", predict.run), ("live", live_command.run)):
        (text,) = re.findall(rf"^jaxlip {name} (.*)$", readme, re.MULTILINE)
        text = text.replace("grid_ctc_best", "sentences").replace("VIDEO", str(grid_clip))
        text = text.replace("--source 0", f"--source {grid_clip}")
        assert guarded(command, shlex.split(text)) == 0, capsys.readouterr().err
    assert (tmp_path / "said.json").is_file() and len(read_images(tmp_path / "said.mp4")) == FEW


@pytest.mark.parametrize(
    ("names", "out", "says"),
    [
        (["a.mp4", "b.mp4"], "o.mp4", "is one file for 2 videos"),
        (["a.mp4"], "o.avi", "neither a name that ends in .mp4 nor a folder"),
        (["a.mp4", "more/a.mp4"], "folder", "would both be written to"),
        (["a.mp4"], "a.mp4", "would replace a video"),
    ],
)
def test_overlay_names(runs_to_ask, tmp_path, capsys, monkeypatch, names, out, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"video")
    assert guarded(predict.run, ["--run", "tiny", "--runs", str(runs_to_ask), *names, "--overlay", out]) == 2
    assert says in capsys.readouterr().err


# Live


class Slow(FaceTracker):
    """Takes its time and never finds a face."""

    def __init__(self, seconds):
        self.seconds = seconds

    def read(self, image, milliseconds):
        time.sleep(self.seconds)


class Counting(Reader):
    """Says how many frames it was given."""

    window = 20

    def __init__(self):
        self.fps = 25.0

    def read_recording(self, recording, span=None):
        return Answer(text=str(len(recording.times)), words=())


def test_pictures_that_come_too_fast_are_dropped_and_counted(video):
    with Camera(str(video)) as camera:
        events = list(live(camera, Slow(0.1), Counting(), every=0.2))
    readings = [event for event in events if isinstance(event, Reading)]
    read = len(events) - len(readings)
    assert camera.taken == FEW and read + camera.dropped == FEW and 3 <= read < FEW
    assert readings and readings[-1].time == pytest.approx((FEW - 1) / 25, abs=1e-3)
    assert all(0 <= reading.latency < 1 for reading in readings)


def test_every_picture_of_a_slow_source_is_read(tmp_path):
    images = [np.zeros((48, 64, 3), np.uint8)] * 12
    path = write_video(tmp_path / "slow.mp4", images, rate=10)
    start = time.perf_counter()
    with Camera(str(path)) as camera:
        events = list(live(camera, Slow(0.0), Counting(), every=0.3))
    assert time.perf_counter() - start >= 1.1, "a file is played in real time"
    readings = [event for event in events if isinstance(event, Reading)]
    # A window of twenty frames at 25 a second lasts .76 s: eight pictures.
    assert camera.taken == 12 and readings and all(int(reading.answer.text) <= 8 for reading in readings)


def test_sources_that_cannot_be_opened(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    for source, says in ((tmp_path / "none.mp4", "is no file"), (tmp_path / "text.mp4", "not a readable video")):
        with pytest.raises(UserError, match=says):
            Camera(str(source))


def test_live_from_a_file(runs_to_ask, grid_clip, face_model, capfd):
    arguments = [
        "--run",
        "tiny",
        "--runs",
        str(runs_to_ask),
        "--source",
        str(grid_clip),
        "--face-model",
        str(face_model),
    ]
    capfd.readouterr()
    assert guarded(live_command.run, arguments) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    last = captured.out.splitlines()[-1]
    assert last.startswith(f"{FEW} pictures, ") and "frames/s" in last and "latency" in last
    assert " s  " in captured.out and "%" in captured.out
    assert guarded(live_command.run, [*arguments, "--every", "0"]) == 2
