"""`jaxlip extract` on folders of good and bad videos: each bad one gets its line, and nothing is half-written."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import no_network
import numpy as np
import pytest
from videos import noise, on_canvas, read_images, write_sound, write_video

from jaxlip.cli import extract
from jaxlip.cli.main import guarded
from jaxlip.data.clips import read_raw_landmarks

REPOSITORY = pathlib.Path(__file__).parents[1]
FEW = 4


@pytest.fixture(scope="module")
def faces(grid_videos):
    return read_images(grid_videos / "bbaf3s.mpg", FEW)


def run(face_model, *arguments):
    """The command in this process; its workers are others."""
    return guarded(extract.run, ["--face-model", str(face_model), "--workers", "1", *map(str, arguments)])


def command(face_model, *arguments, before="", **options):
    """The command in a process of its own, after the statements `before`."""
    code = f"{before}\nfrom jaxlip.cli.main import main; main()"
    line = [sys.executable, "-W", "error::ResourceWarning", "-c", code, "extract", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    line += ["--face-model", str(face_model)]
    return subprocess.Popen(line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def report_of(out):
    report = json.loads((out / "report.json").read_text())
    return report, {clip["clip"]: clip for clip in report["per_clip"]}


def leftovers(out):
    return [path for path in out.rglob("*") if path.is_file() and path.suffix not in (".npz", ".json", ".html")]


def make_bad_videos(root, faces):
    """A folder of everything that goes wrong; name -> (status, what its line or notes say)."""
    expected = {}

    def add(name, status, says=""):
        expected[name] = (status, says)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    whole = write_video(root / "whole.mp4", [faces[0]] * 20, container_options={"movflags": "faststart"}, key_every=5)
    content = whole.read_bytes()
    expected["whole.mp4"] = ("ok", "")
    add("empty.mp4", "failed", "the file is empty").touch()
    add("text.mp4", "failed", "not a readable video|no frame|no video").write_text("once upon a time\n" * 200)
    add("zeros.avi", "failed", "not a readable video|no frame").write_bytes(bytes(9000))
    add("header_only.mp4", "failed", "not a readable video|no frame|no video").write_bytes(content[:48])
    add("no_index.mp4", "failed", "not a readable video|no video").write_bytes(
        write_video(root / "tail.mp4", [faces[0]] * 20).read_bytes()[:-900]
    )
    (root / "tail.mp4").unlink()
    add("truncated.mp4", "ok", "frames missing").write_bytes(content[: len(content) * 2 // 3])
    no_frames = add("zero_frames.avi", "failed", "no frame|not a readable")
    write_video(no_frames, noise(2), codec="mjpeg", pix_fmt="yuvj420p")
    no_frames.write_bytes(no_frames.read_bytes()[:5680])
    broken = write_video(add("broken.avi", "ok", "decoder"), [faces[0]] * 20, key_every=5)
    damaged = bytearray(broken.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 4000] = bytes(4000)
    broken.write_bytes(damaged)
    write_video(add("no_face.mp4", "rejected", "no face found"), noise(FEW, 96, 128))
    write_video(add("black.mp4", "rejected", "no face found"), [np.zeros((96, 128, 3), np.uint8)] * FEW)
    write_video(add("grey.mp4", "rejected", "look damaged"), [np.full((96, 128, 3), 130, np.uint8)] * FEW)
    write_video(add("tiny.avi", "rejected", "no face found"), noise(FEW, 8, 8), codec="mjpeg", pix_fmt="yuvj420p")
    wide = on_canvas(faces[0], 288, 8000, 0, 4000)
    write_video(add("wide.avi", "ok"), [wide] * 2, codec="mjpeg", pix_fmt="yuvj420p")
    write_video(add("one_fps.mp4", "ok"), faces, rate=1)
    write_video(add("thousand_fps.mp4", "ok"), faces, rate=1000)
    write_video(add("one_frame.mp4", "ok"), faces[:1])
    write_sound(add("sound.mp4", "failed", "sound only"))
    sideways = [np.ascontiguousarray(np.rot90(image, -1)) for image in faces]
    write_video(add("turned/90.mp4", "ok", "shown rotated"), sideways, rotation=90)
    write_video(add("turned/45.mp4", "ok"), faces, rotation=45)
    wrong = [np.ascontiguousarray(np.rot90(image, 1)) for image in faces]
    write_video(add("turned/wrong.mp4", None), wrong)
    two = np.concatenate([faces[0], faces[1]], axis=1)
    write_video(add("two_faces.mp4", "ok", "2 faces"), [two] * FEW)
    leaving = [np.roll(faces[0], 60 * i, axis=1) for i in range(FEW)]
    write_video(add("leaving.mp4", None, "over the edge"), leaving)
    write_video(add("clash.mp4", "failed", "would both be written to clash.npz"), faces)
    write_video(add("clash.avi", "failed", "would both be written to clash.npz"), faces)
    write_video(add("grüße 口.mp4", "ok"), faces)
    write_video(add("with spaces [1]/a  b.MP4", "ok"), faces)
    write_video(add("colon:name.mp4", "ok"), faces)
    write_video(add("variable.mp4", "ok", "variable frame rate"), faces, times=[0, 20, 100, 120])
    write_video(
        add("hole.mkv", "ok", "2 frames missing"), faces * 3, times=[40 * i for i in range(14) if i not in (5, 6)]
    )
    write_video(add("negative.mkv", "ok"), faces, times=[-80, -40, 0, 40])
    write_video(add("grayscale.mkv", "ok"), faces, codec="ffv1", pix_fmt="gray")
    write_video(add("ten_bit.mkv", "ok"), faces, codec="ffv1", pix_fmt="yuv444p10le")
    (root / "readme.txt").write_text("not a video by its name")
    (root / ".hidden.mp4").touch()
    (root / "loop").symlink_to(root)
    (root / "gone.mp4").symlink_to(root / "nowhere.mp4")
    expected[str(root / "gone.mp4")] = ("failed", "cannot be read")
    os.mkfifo(root / "pipe.mp4")
    expected[str(root / "pipe.mp4")] = ("failed", "is a pipe, socket or device, not a file")
    return expected


def test_every_bad_video_has_its_line_and_the_others_go_on(faces, face_model, tmp_path, capsys):
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    expected = make_bad_videos(root, faces)
    # What an earlier run left: a landmark file that was cut short, and a folder in the place of one.
    out.mkdir()
    (out / "one_frame.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    (out / "one_fps.npz").mkdir()
    expected["one_fps.mp4"] = ("failed", "cannot be read or written: Is a directory")
    assert run(face_model, root, "--out", out) == 0
    said = capsys.readouterr().out
    report, clips = report_of(out)
    assert clips.keys() == expected.keys()
    for name, (status, says) in expected.items():
        clip = clips[name]
        told = (
            clip["reason"]
            + json.dumps(clip.get("damage"))
            + "; ".join(clip["notes"])
            + "; ".join(extract.describe_clip(clip))
        )
        assert status in (None, clip["status"]), (name, clip["reason"])
        assert re.search(says, told), (name, told)
        if clip["status"] == "failed":
            assert f"failed: {name}: " in said
            assert not (out / pathlib.Path(name).with_suffix(".npz")).is_file()
        else:
            raw = read_raw_landmarks(out / clip["file"])
            assert len(raw["landmarks"]) == clip["frames"] and raw["size"] == tuple(clip["size"])
    assert clips["thousand_fps.mp4"]["fps"] == 1000 and report["ignored_files"] == 1
    assert leftovers(out) == []
    page = (out / "report.html").read_text()
    assert all(name.replace("&", "&amp;") in page for name in ("empty.mp4", "grüße 口.mp4"))
    assert "http" not in page and "<script" not in page and "data:image/png;base64," in page

    # A second run does only what is missing, and its report has everything again.
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    (out / "one_fps.npz").rmdir()
    (out / "black.npz").unlink()
    assert run(face_model, root, "--out", out) == 0
    again, clips = report_of(out)
    changed = {path for path in out.rglob("*.npz") if kept.get(path) != path.stat().st_mtime_ns}
    assert {path.name for path in changed} == {"one_fps.npz", "black.npz"}
    done = sum(clip["status"] != "failed" for clip in clips.values())
    assert again["already_done"] == done - 2 and again["ok"] == report["ok"] + 1
    assert again["per_clip"][0].keys() == report["per_clip"][0].keys()


def test_a_grid_tree_gives_a_grid_tree(faces, face_model, tmp_path, monkeypatch):
    for speaker in ("s1", "s2"):
        (tmp_path / "grid" / speaker).mkdir(parents=True)
        write_video(tmp_path / f"grid/{speaker}/{speaker}clip.mpg", faces[:2], codec="mpeg1video")
    monkeypatch.chdir(tmp_path)
    tree = {"s1/s1clip.npz", "s2/s2clip.npz"}
    for number, sources in enumerate((["grid"], ["grid/*/*.mpg"], ["grid/**/*.mpg"], ["grid/s*"], ["grid", "grid/s1"])):
        out = tmp_path / f"out{number}"
        assert run(face_model, *sources, "--out", out) == 0
        assert {str(path.relative_to(out)) for path in out.rglob("*.npz")} == tree
    assert run(face_model, "grid/s1/s1clip.mpg", "--out", "single") == 0
    assert (tmp_path / "single/s1clip.npz").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.mp4", "--out", "o"], "nowhere.mp4 does not exist"),
        (["*.nothing", "--out", "o"], r"nothing matches \*.nothing"),
        (["nothing", "--out", "o"], "no videos in nothing"),
        (["a.mp4", "--out", "file"], "--out file cannot be used as a folder"),
        (["a.mp4", "--out", "o", "--workers", "0"], "--workers 0 is not 1 or more"),
        (["a.mp4", "--out", "o", "--fps", "-1"], "--fps -1 is not in"),
        (["a.mp4", "--out", "o", "--fps", "nan"], "--fps nan is not in"),
        (["a.mp4", "--out", "o", "--face", "0"], "--face 0 is not largest"),
        (["a.mp4"], "--out"),
        (["a.mp4", "--out", "o"], "none of the 1 videos could be extracted"),
    ],
)
def test_mistakes_give_one_line(face_model, tmp_path, monkeypatch, capsys, arguments, says):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "a.mp4").touch()
    monkeypatch.chdir(tmp_path)
    assert run(face_model, *arguments) == 2
    said = capsys.readouterr().err
    assert re.search(says, said) and said.count("\n") == 1


def test_a_model_that_is_not_the_official_one_is_refused(tmp_path, capsys):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "m.task").write_bytes(b"something else")
    assert run(tmp_path / "m.task", tmp_path / "a.mp4", "--out", tmp_path / "o") == 2
    assert "not the official face_landmarker.task" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(faces, face_model, tmp_path):
    (tmp_path / "in/shut").mkdir(parents=True)
    write_video(tmp_path / "in/a.mp4", faces)
    (tmp_path / "in/shut").chmod(0)
    try:
        assert run(face_model, tmp_path / "in", "--out", tmp_path / "o") == 0
    finally:
        (tmp_path / "in/shut").chmod(0o700)
    report, _ = report_of(tmp_path / "o")
    assert report["ok"] == 1 and "cannot be read: Permission denied" in json.dumps(report)


def test_an_unreadable_folder_is_a_line(faces, face_model, tmp_path, monkeypatch):
    """As above for root too: the folder's listing fails."""
    (tmp_path / "in/shut").mkdir(parents=True)
    write_video(tmp_path / "in/a.mp4", faces[:2])
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert run(face_model, tmp_path / "in", "--out", tmp_path / "o") == 0
    report, clips = report_of(tmp_path / "o")
    assert report["ok"] == 1
    assert clips[str(tmp_path / "in/shut")]["reason"] == "folder cannot be read: Permission denied"


def test_two_extractions_into_one_folder_exclude_each_other(faces, face_model, tmp_path, capsys):
    write_video(tmp_path / "a.mp4", faces)
    with extract._locked(tmp_path / "o"):
        assert run(face_model, tmp_path / "a.mp4", "--out", tmp_path / "o") == 2
    assert "written by another extraction" in capsys.readouterr().err


# Processes that die


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)
    return found


def children_of(pid):
    """Worker processes: the spawned children that are no resource tracker."""
    found = []
    for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        line = pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
        if b"spawn_main" in line:
            found.append(int(child))
    return found


def busy_child(pid, out):
    """A worker that has begun a video: it holds the spool of its landmarks."""
    for child in children_of(pid):
        for link in pathlib.Path(f"/proc/{child}/fd").iterdir():
            try:
                if os.readlink(link).startswith(str(out)):
                    return child
            except OSError:
                continue
    return None


@pytest.fixture
def long_videos(faces, tmp_path):
    """Two videos that take a few seconds each, as long as they are read."""
    (tmp_path / "in").mkdir()
    path = write_video(tmp_path / "in/a.mp4", faces * 100)
    shutil.copy(path, tmp_path / "in/b.mp4")
    with path.open("ab") as file:
        file.write(b"\0\0\0\x08free")
    return tmp_path / "in"


def test_a_killed_worker_costs_nothing_and_one_that_always_dies_its_video(long_videos, face_model, tmp_path):
    out = tmp_path / "out"
    process = command(face_model, long_videos, "--out", out, "--workers", "1")
    first = wait_for(lambda: busy_child(process.pid, out))
    os.kill(first, signal.SIGKILL)
    second = wait_for(lambda: (child := busy_child(process.pid, out)) != first and child)
    os.kill(second, signal.SIGKILL)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    _, clips = report_of(out)
    assert clips["a.mp4"]["reason"] == "its process was killed by SIGKILL, 2 times"
    assert clips["b.mp4"]["status"] == "ok"
    assert leftovers(out) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_the_next_run_goes_on(long_videos, face_model, tmp_path, number):
    out = tmp_path / "out"
    process = command(face_model, long_videos, "--out", out, "--workers", "1", start_new_session=True)
    worker = wait_for(lambda: busy_child(process.pid, out))
    # As a terminal does: to every process of the group.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors == "jaxlip: stopped; what is done is kept, and the same command goes on from there.\n"
    assert not pathlib.Path(f"/proc/{worker}").exists()
    assert leftovers(out) == [] and not list(out.rglob("*.npz"))


# The error of a write beyond a limit reaches Python as that of a full disk does.
SMALL_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))"


def test_a_full_disk_is_a_line_and_leaves_nothing(faces, face_model, tmp_path):
    write_video(tmp_path / "a.mp4", faces * 3)
    write_video(tmp_path / "b.mp4", faces[:1])
    out = tmp_path / "out"
    process = command(face_model, tmp_path / "[ab].mp4", "--out", out, "--workers", "1", before=SMALL_FILES)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    _, clips = report_of(out)
    assert clips["a.mp4"]["reason"] == "cannot be read or written: File too large"
    assert clips["b.mp4"]["status"] == "ok" and leftovers(out) == []


def test_a_report_that_does_not_fit_on_the_disk_is_one_line(faces, face_model, tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "a.mp4", faces[:1])
    write_text = pathlib.Path.write_text

    def full(path, content, **options):
        if path.name == ".report.html.part":
            write_text(path, content[:100], **options)
            raise OSError(28, "No space left on device")
        return write_text(path, content, **options)

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    assert run(face_model, tmp_path / "a.mp4", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "report.html cannot be written: No space left on device" in said and said.count("\n") == 1
    assert (tmp_path / "out/a.npz").is_file() and leftovers(tmp_path / "out") == []


# Nothing leaves the machine


@pytest.mark.skipif(not no_network.is_possible(), reason="seccomp filters for Linux on x86-64 and ARM only")
def test_no_process_makes_an_internet_socket(faces, face_model, tmp_path):
    write_video(tmp_path / "a.mp4", faces)
    forbid = "import no_network; no_network.forbid()"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")}
    # Without extraction: that the filter does what it says.
    for family, code in (("AF_UNIX", 0), ("AF_INET", -signal.SIGSYS), ("AF_INET6", -signal.SIGSYS)):
        tried = f"{forbid}; import socket; socket.socket(socket.{family}).close()"
        assert subprocess.run([sys.executable, "-c", tried], env=environment).returncode == code
    process = command(face_model, tmp_path / "a.mp4", "--out", tmp_path / "o", "--workers", "1", before=forbid)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert report_of(tmp_path / "o")[0]["ok"] == 1


def test_extraction_does_without_jax(tmp_path):
    code = (
        "import sys\n"
        "for name in ('jax', 'flax', 'optax', 'orbax'):\n"
        "    sys.modules[name] = None\n"
        "import jaxlip.cli.main, jaxlip.cli.extract, jaxlip.data.workers\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    find_spec = extract.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mediapipe" else find_spec(name))
    assert guarded(extract.run, [str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "pip install 'jaxlip[video]'" in capsys.readouterr().err
