"""One video to one file: agreement with known landmarks, which face is followed, small faces, the model file."""

import hashlib
import io
import json
import tracemalloc

import numpy as np
import pytest
from videos import on_canvas, read_images, write_video

from jaxlip.data import landmarker
from jaxlip.data.clips import DamagedClip, read_raw_landmarks
from jaxlip.data.extract import Extraction, Extractor, ranges
from jaxlip.data.landmarker import find_model
from jaxlip.data.quality import MEASURES, measure
from jaxlip.data.recording import part_of, read_report, read_thumbnail
from jaxlip.data.tracking import FaceChoice, View
from jaxlip.errors import UserError

FEW = 12


@pytest.fixture(scope="session")
def faces(grid_videos):
    """Twelve frames of a GRID clip, as RGB images of 288 x 360."""
    return read_images(grid_videos / "bbaf3s.mpg", FEW)


def to_file(path, target, model, **options):
    """The report of one video."""
    with Extractor(Extraction(**options), model) as extractor:
        return extractor.extract(path, target)


@pytest.fixture
def extract(face_model, tmp_path):
    """A function: video and options -> (report, arrays of the file)."""

    def run(path, **options):
        target = tmp_path / "out" / f"{path.stem}.npz"
        report = to_file(path, target, face_model, **options)
        with np.load(target) as file:
            return report, {name: file[name] for name in file.files}

    return run


def centre_px(arrays):
    """[T, 2]: the middle of the face in pixels."""
    return arrays["landmarks"][..., :2].mean(axis=1) * arrays["size"]


def smaller(image, factor):
    import cv2

    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def reference(pack_folder, name):
    import sys

    sys.path.insert(0, str(pack_folder))
    try:
        from unpack import read_pack
    finally:
        sys.path.remove(str(pack_folder))
    packs = sorted(pack_folder.glob("landmarks-*.pack"))
    return next(arrays for pack in packs for clip, arrays in read_pack(pack) if clip == name)


def test_landmarks_of_grid_agree_with_the_pack(grid_videos, extract, tmp_path):
    known = reference(grid_videos.parent, "bbizzn")
    report, arrays = extract(grid_videos / "bbizzn.mpg")
    assert arrays["detected"].tolist() == known["detected"].tolist()
    assert np.isnan(arrays["landmarks"][~known["detected"]]).all()
    error = (arrays["landmarks"] - known["landmarks"])[known["detected"]][..., :2] * [360, 288]
    assert np.linalg.norm(error, axis=-1).mean() < 0.05
    raw = read_raw_landmarks(tmp_path / "out/bbizzn.npz")
    assert (raw["fps"], raw["size"], raw["landmarks"].dtype) == (25.0, (360, 288), np.float32)
    assert report["damage"]["looks_damaged"] == "0-11" and report["undetected_frames"] == "0-11"
    assert read_thumbnail(tmp_path / "out/bbizzn.npz").startswith(b"\x89PNG")
    assert arrays["times"] == pytest.approx(np.arange(75) / 25)


def test_optional_keys(faces, extract, tmp_path):
    _, arrays = extract(write_video(tmp_path / "a.mp4", faces), blendshapes=True, pose=True)
    assert arrays["blendshapes"].shape == (FEW, 52) and arrays["pose"].shape == (FEW, 4, 4)
    assert (0 <= arrays["blendshapes"]).all() and (arrays["blendshapes"] <= 1).all()
    # MediaPipe's own pose (y up, z to the camera) and the one from landmarks are of the same head.
    yaw = np.degrees(np.arctan2(arrays["pose"][:, 0, 2], arrays["pose"][:, 2, 2]))
    ours = measure(arrays["landmarks"], (360, 288))[:, MEASURES.index("yaw")]
    assert np.abs(yaw - ours).max() < 5


def test_the_same_video_gives_the_same_bytes_and_is_not_done_twice(faces, face_model, tmp_path):
    path, target = write_video(tmp_path / "a.mp4", faces), tmp_path / "a.npz"
    assert not to_file(path, target, face_model)["skipped"]
    first = target.read_bytes()
    again = to_file(path, target, tmp_path / "not needed")
    assert again["skipped"] and again["detected"] == FEW
    target.unlink()
    to_file(path, target, face_model)
    assert target.read_bytes() == first


@pytest.mark.parametrize("change", ["video", "options", "cut short", "no key"])
def test_what_was_made_from_something_else_is_done_again(faces, face_model, tmp_path, change):
    path, target = write_video(tmp_path / "a.mp4", faces[:4]), tmp_path / "a.npz"
    to_file(path, target, face_model)
    options = {"fps": 5.0} if change == "options" else {}
    if change == "video":
        write_video(path, faces[4:8])
    elif change == "cut short":
        target.write_bytes(target.read_bytes()[:-3000])
    elif change == "no key":
        np.savez(target, **read_raw_landmarks(target))
    assert not to_file(path, target, face_model, **options)["skipped"]


def test_resampling(faces, extract, tmp_path):
    times = np.cumsum([0, *[20, 60] * (FEW // 2)])[:FEW].tolist()
    path = write_video(tmp_path / "a.mp4", faces, times=times)
    report, arrays = extract(path)
    assert "variable frame rate" in report["notes"][0] and len(arrays["landmarks"]) == FEW
    assert arrays["times"] * 1000 == pytest.approx(times, abs=1)
    report, arrays = extract(path, fps=25.0)
    assert not report["notes"] and arrays["fps"] == 25
    assert np.allclose(np.diff(arrays["times"]), 0.04) and len(arrays["times"]) == times[-1] // 40 + 1


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_phone_gives_an_upright_face(faces, extract, tmp_path, rotation):
    stored = [np.ascontiguousarray(np.rot90(image, -rotation // 90)) for image in faces]
    report, arrays = extract(write_video(tmp_path / "a.mp4", stored, rotation=rotation))
    assert report["detection"] == 1 and report["size"] == [360, 288]
    assert "shown rotated" in report["notes"][0]
    assert abs(report["measures"]["roll"]["median"]) < 5
    if rotation != 180:
        # MediaPipe sees faces in heads that are upside down too, but lays the chin on the forehead.
        wrong, _ = extract(write_video(tmp_path / "b.mp4", stored))
        assert wrong["detection"] < 1 or abs(wrong["measures"]["roll"]["median"]) > 45


# Which face


@pytest.fixture(scope="session")
def two_faces(faces, tmp_path_factory):
    """A small face on the left, a large one on the right of the centre."""
    small = [smaller(image, 0.8) for image in faces]
    images = [on_canvas(on_canvas(large, 288, 720, 0, 360), 288, 720, 0, 0) for large in faces]
    for image, face in zip(images, small, strict=True):
        image[40 : 40 + face.shape[0], 120 : 120 + face.shape[1]] = face
    return write_video(tmp_path_factory.mktemp("two") / "two.mp4", images)


@pytest.mark.parametrize(
    ("face", "left"), [("largest", False), ("center", True), ("1", True), ("2", False), ("3", None)]
)
def test_the_chosen_one_of_two_faces_is_followed(two_faces, extract, face, left):
    report, arrays = extract(two_faces, face=face)
    if left is None:
        assert report["status"] == "rejected" and report["reason"] == "no face number 3 found"
        return
    assert report["detection"] == 1 and report["faces"]["most_seen"] == 2
    assert "2 faces" in report["notes"][0]
    x_T = centre_px(arrays)[:, 0]
    assert (x_T < 300).all() if left else (x_T > 400).all()


def test_choices():
    boxes = [(500.0, 0.0, 10.0, 10.0), (0.0, 0.0, 30.0, 30.0), (300.0, 90.0, 20.0, 20.0)]
    choose = {rule: FaceChoice(rule).choose(boxes, (640, 200)) for rule in ("largest", "center", "1", "2", "3", "4")}
    assert choose == {
        "largest": boxes[1],
        "center": boxes[2],
        "1": boxes[1],
        "2": boxes[2],
        "3": boxes[0],
        "4": None,
    }
    with pytest.raises(UserError, match="--face smallest"):
        FaceChoice("smallest")


def test_a_cut_out_maps_back():
    view = View(left=-10, top=20, side=100)
    image = np.zeros((200, 300, 3), np.uint8)
    image[70, 40] = 255
    cut = view.cut(image)
    assert cut.shape == (512, 512, 3)
    y, x = np.argwhere(cut[..., 0] == cut.max())[0]
    face = landmarker.Face(np.full((478, 3), [x / 512, y / 512, 0.5], np.float32))
    assert view.to_picture(face, (300, 200)).points_VC[0] * [300, 200, 300] == pytest.approx((40, 70, 50), abs=0.6)


# Small faces and faces that leave


def errors_px(arrays, known, factor, offset):
    """Mean error in pixels of the original video, of landmarks found in a smaller copy at an offset."""
    found = (arrays["landmarks"][..., :2] * arrays["size"] - offset) / factor
    return float(np.linalg.norm(found - known["landmarks"][..., :2] * known["size"], axis=-1).mean())


@pytest.mark.parametrize(("factor", "pad"), [(1.0, 4), (0.5, 4), (0.25, 2)])
def test_a_small_face_is_cut_out_and_enlarged(faces, extract, tmp_path, factor, pad):
    _, known = extract(write_video(tmp_path / "whole.mp4", faces, codec="mjpeg", pix_fmt="yuvj444p", qscale="1"))
    copies = [smaller(image, factor) for image in faces]
    height, width = copies[0].shape[:2]
    left, top = width * (pad - 1) // 2, height * (pad - 1) // 2
    images = [on_canvas(copy, height * pad, width * pad, top, left) for copy in copies]
    report, arrays = extract(write_video(tmp_path / "small.mkv", images, codec="ffv1", pix_fmt="bgr0"))
    assert report["detection"] == 1
    assert report["faces"]["frames_read_from_cut_out"] >= FEW - 1
    # Without the cut-out, none is found in the first two, and the third is off by 2.3 px.
    assert errors_px(arrays, known, factor, (left, top)) < 1.2


def test_a_face_leaving_the_picture(faces, extract, tmp_path):
    images = [np.roll(faces[0], 25 * i, axis=1) for i in range(FEW)]
    for i, image in enumerate(images):
        image[:, : 25 * i] = 90
    report, arrays = extract(write_video(tmp_path / "a.mp4", images))
    assert arrays["detected"][:4].all() and not arrays["detected"][-2:].any()
    assert "over the edge" in report["notes"][0]


def test_memory_does_not_grow_with_the_video(face_model, tmp_path):
    def peak(count):
        path = write_video(
            tmp_path / f"{count}.avi", [np.full((48, 64, 3), 90, np.uint8)] * count, codec="mjpeg", pix_fmt="yuvj420p"
        )
        tracemalloc.start()
        to_file(path, tmp_path / f"{count}.npz", face_model)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)
    # Landmarks of a frame are 5.7 kB, its pixels 9 kB; what the garbage collector has not yet seen is up to 0.5 MB.
    assert peak(400) - peak(150) < 250 * 4000


# Nothing half-written


@pytest.mark.parametrize("video", ["full disk", "no face"])
def test_what_fails_leaves_nothing(faces, face_model, tmp_path, monkeypatch, video):
    path, target = write_video(tmp_path / "a.mp4", faces[:3]), tmp_path / "out/a.npz"
    if video == "full disk":
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            to_file(path, target, face_model)
        assert list(target.parent.iterdir()) == []
    else:
        path.write_bytes(path.read_bytes()[:400])
        with pytest.raises(DamagedClip):
            to_file(path, target, face_model)
        assert not target.exists()


def test_names_of_parts_are_hidden_and_no_landmark_files(tmp_path):
    assert part_of(tmp_path / "a.npz").name == ".a.npz.part"
    assert read_report(tmp_path / "a.npz", "key") is None


def test_frame_numbers_as_ranges():
    assert ranges([]) == "" and ranges([3, 1, 2, 2, 7]) == "1-3, 7"


# The model file


@pytest.fixture
def official(monkeypatch):
    """Pretends that a few bytes are the official model."""
    content = b"model"
    monkeypatch.setattr(landmarker, "MODEL_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.delenv("JAXLIP_FACE_MODEL", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("the network was asked"))
    return content


def test_the_model_is_looked_for_in_order(official, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given, named, cached = tmp_path / "given.task", tmp_path / "named.task", landmarker.cached_model()
    assert cached == tmp_path / "cache/jaxlip/face_landmarker.task"
    cached.parent.mkdir(parents=True)
    for path in (given, named, cached):
        path.write_bytes(official)
    assert find_model(None) == cached
    monkeypatch.setenv("JAXLIP_FACE_MODEL", str(named))
    assert find_model(None) == named
    assert find_model(given) == given


@pytest.mark.parametrize("where", ["given", "named", "cached"])
def test_another_model_is_refused_wherever_it_lies(official, tmp_path, monkeypatch, where):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = landmarker.cached_model() if where == "cached" else tmp_path / "m.task"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"another")
    if where == "named":
        monkeypatch.setenv("JAXLIP_FACE_MODEL", str(path))
    with pytest.raises(UserError, match="not the official"):
        find_model(path if where == "given" else None)


def test_a_missing_model_is_downloaded_checked_and_kept(official, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: io.BytesIO(b"an error page"))
    with pytest.raises(UserError, match="not the official"):
        find_model(None)
    assert not list(tmp_path.rglob("*.task"))
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: io.BytesIO(official))
    assert find_model(None).read_bytes() == official
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("the network was asked again"))
    assert find_model(None) == landmarker.cached_model()


def test_no_network_says_what_to_do(official, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def offline(url, timeout):
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(UserError, match="--face-model"):
        find_model(None)
    with pytest.raises(UserError, match="cannot be read"):
        find_model(tmp_path / "nowhere.task")


def test_the_report_is_part_of_the_file(faces, extract, tmp_path):
    report, arrays = extract(write_video(tmp_path / "a.mp4", faces[:3]))
    assert json.loads(str(arrays["report"])) | {"skipped": False} == report
