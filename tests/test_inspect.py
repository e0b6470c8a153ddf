"""Inspection before training: every planted fault is named, and a corpus without faults has none."""

import json
import pathlib
import re
import shlex

import numpy as np
import pytest

from jaxlip.cli import inspect as command
from jaxlip.cli import prepare
from jaxlip.cli.main import guarded
from jaxlip.data.class_means import LIPS, ClassMeans
from jaxlip.data.clips import Clip
from jaxlip.data.face import FaceData
from jaxlip.data.inspection import Sample, inspect
from jaxlip.data.near_duplicates import near_duplicates, signature
from jaxlip.data.sources.grid import WORDS
from jaxlip.data.sources.visemes import Visemes
from jaxlip.data.steadiness import runs, steadiness
from jaxlip.face import visemes
from jaxlip.face.mean_face import mean_face
from jaxlip.report.findings import find_faults
from jaxlip.report.mouths import class_sheet

FRAMES = 60
SIZE = (400, 300)
# Pixels from eye to eye.
SCALE = 60.0


def talking(seed, frames=FRAMES):
    """Raw landmarks of a face whose mouth moves at random and whose head sways."""
    rng = np.random.default_rng(seed)
    low = rng.normal(0, 0.25, (frames // 4 + 2, len(visemes.PARAMETERS)))
    time = np.arange(frames) / 4
    course = np.stack([np.interp(time, np.arange(len(low)), column) for column in low.T], axis=1)
    face_TVC = mean_face() + visemes.move(course.astype(np.float32)) + rng.normal(0, 0.002, (frames, 478, 3))
    face_TVC[..., 0] += 0.05 * np.sin(time / 3)[:, None]
    return (face_TVC * SCALE / [SIZE[0], SIZE[1], SIZE[0]] + [0.5, 0.4, 0]).astype(np.float32)


class Corpus:
    """A GRID-like folder: nine training clips of two speakers say the 51 words six times, val and test once."""

    def __init__(self, root):
        self.root, self.splits = root, {"train": [], "val": [], "test": []}
        for split, speakers, rounds in (("train", "s1 s2", 6), ("val", "s3", 1), ("test", "s4", 1)):
            for number in range(9 * rounds):
                said = [WORDS[(6 * number + i) % 51] for i in range(6)]
                self.add(split, f"{speakers.split()[number % 2 if ' ' in speakers else 0]}/{split}{number:02d}", said)

    def add(self, split, name, said=("bin",), landmarks=None, detected=None, size=SIZE):
        speaker, clip = name.split("/")
        landmarks = talking(abs(hash_of(name))) if landmarks is None else landmarks
        for kind in ("landmarks", "align"):
            (self.root / kind / speaker).mkdir(parents=True, exist_ok=True)
        detected = np.isfinite(landmarks).all(axis=(1, 2)) if detected is None else detected
        arrays = {"landmarks": landmarks, "detected": detected, "fps": np.float32(25), "size": np.array(size)}
        np.savez(self.root / f"landmarks/{name}.npz", **arrays)
        lines = [f"{1000 * (6 + 8 * i)} {1000 * (12 + 8 * i)} {word}" for i, word in enumerate(said)]
        (self.root / f"align/{name}.align").write_text("\n".join(lines))
        if name not in self.splits[split]:
            self.splits[split].append(name)

    def landmarks(self, name):
        with np.load(self.root / f"landmarks/{name}.npz") as file:
            return file["landmarks"]

    def data(self, **options) -> FaceData:
        (self.root / "splits.json").write_text(json.dumps(self.splits))
        return FaceData(source="grid", root=str(self.root), preset="lips40", **options)


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode(), "big") % 2**32


def faults(config) -> dict[str, list[str]]:
    """Kind of finding -> names; reasons of clips that are left out stand before their names."""
    found: dict[str, list[str]] = {}
    for finding in find_faults(inspect(config)):
        names = [f"{finding.text}: {name}" if finding.kind == "left_out" else name for name in finding.names]
        found.setdefault(finding.kind, []).extend(names)
    return found


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return Corpus(tmp_path_factory.mktemp("clean"))


def test_a_corpus_without_faults_has_none(clean):
    seen = inspect(clean.data())
    assert {finding.kind for finding in find_faults(seen)} == {"twin_slots_by_definition"}
    # 54 clips of six words: the vocabulary six times, and the first 18 words once more.
    assert [seen.words["train"][word] for word in WORDS] == [7] * 18 + [6] * 33
    assert {split: len(clips) for split, clips in seen.by_split().items()} == {"train": 54, "val": 9, "test": 9}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    corpus = Corpus(tmp_path_factory.mktemp("planted"))
    for split, names in corpus.splits.items():
        for name in names:
            # "z" is said nowhere, "q" in test alone.
            path = corpus.root / f"align/{name}.align"
            path.write_text(
                re.sub(r" z$" if split == "test" else r" [qz]$", " a", path.read_text(), flags=re.MULTILINE)
            )
    rng = np.random.default_rng(0)
    again = corpus.landmarks("s1/train00") + [0.02, 0.03, 0] + rng.normal(0, 0.0002, (FRAMES, 478, 3))
    corpus.add("test", "s4/again", landmarks=again.astype(np.float32))
    corpus.add("train", "s1/twice", landmarks=corpus.landmarks("s2/train01"))
    broken = talking(1)
    broken[10:13, 5] = np.nan
    corpus.add("val", "s3/broken", landmarks=broken, detected=np.ones(FRAMES, bool))
    corpus.add("val", "s3/lost", landmarks=np.full((FRAMES, 478, 3), np.nan, np.float32))
    corpus.add("test", "s1/other_side")
    still = talking(2)
    still[20:40] = still[20]
    corpus.add("train", "s2/still", landmarks=still)
    jump = talking(3)
    jump[33:, :, 0] += 2 * SCALE / SIZE[0]
    corpus.add("train", "s2/jump", landmarks=jump)
    gap = talking(4)
    gap[20:34] = np.nan
    corpus.add("train", "s2/gap", landmarks=gap)
    corpus.add("train", "s2/small", size=(SIZE[0] // 5, SIZE[1] // 5))
    shaking = talking(5) + rng.normal(0, 0.03 * SCALE / 350, (FRAMES, 478, 3))
    corpus.add("train", "s2/shaking", landmarks=shaking.astype(np.float32))
    corpus.add("train", "s2/word", said=("bin", "hello"))
    corpus.add("train", "s2/missing")
    (corpus.root / "landmarks/s2/missing.npz").unlink()
    return faults(corpus.data())


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("duplicates_within_a_split", ["s1/twice = s2/train01"]),
        ("speakers_in_several_splits", ["s1 (train, test)"]),
        ("classes_never_trained", ["q"]),
        ("empty_classes", ["z"]),
        ("not_finite", ["s3/broken (3 frames)"]),
        ("frozen", ["s2/still (32%)"]),
        ("jumps", ["s2/jump (frame 33)"]),
        ("long_gaps", ["s2/gap (longest 14)"]),
        ("low_detection", ["s2/gap (77%)"]),
        ("small_mouth", ["s2/small (10)"]),
    ],
)
def test_planted_faults_are_named_and_nothing_else(planted, kind, names):
    assert planted[kind] == names


def test_copies_across_splits_are_named(planted):
    (pair,) = planted["duplicates_across_splits"]
    assert pair.startswith("s1/train00 (train) = s4/again (test), distance 0.")


def test_shaking_is_named(planted):
    (name,) = planted["jitter"]
    assert name.startswith("s2/shaking (3.")


def test_what_is_left_out_is_named_with_its_reason(planted):
    assert sorted(planted["left_out"]) == [
        "left out 1 (a face in less than 70% of the frames): s3/lost",
        "left out 1 (no landmark file): s2/missing",
        "left out 1 (word 'hello' is not in the vocabulary): s2/word#1:hello",
    ]


def test_dead_and_copied_coordinates_are_named(tmp_path):
    corpus = Corpus(tmp_path)
    for path in sorted((tmp_path / "landmarks").glob("*/*.npz")):
        name = f"{path.parent.name}/{path.stem}"
        flat = corpus.landmarks(name)
        flat[..., 2] = 0
        flat[:, 14] = flat[:, 13]
        corpus.add(next(s for s, names in corpus.splits.items() if name in names), name, landmarks=flat)
    seen = inspect(corpus.data())
    found = {finding.kind: finding.names for finding in find_faults(seen)}
    # What is made of depth alone, and the gap between two points that are one.
    assert set(found["dead_slots"]) == {
        *("z", "protrusion", "d_protrusion", "au18_pucker"),
        *("height", "au25_lips_part", "au27_mouth_stretch", "d_opening"),
    }
    assert found["same_points"] == ("13 = 14",)


# The parts, each against an oracle of its own


def clip_of(landmarks, **fields):
    detected = np.isfinite(landmarks).all(axis=(1, 2))
    return Clip(name="c", split="train", landmarks=landmarks, detected=detected, fps=25.0, size=SIZE, **fields)


def test_jitter_is_the_standard_deviation_of_white_noise():
    rng = np.random.default_rng(0)
    still = mean_face() * SCALE / [SIZE[0], SIZE[1], SIZE[0]] + [0.5, 0.4, 0]
    noise = rng.normal(0, 0.02, (4000, 478, 3)) * SCALE / [SIZE[0], SIZE[1], SIZE[0]]
    seen = steadiness(clip_of((still + noise).astype(np.float32)))
    # The median of the mean of twelve squares lies a little below their mean.
    assert seen.jitter == pytest.approx(0.02, rel=0.05)
    assert seen.still == 0 and seen.jumps == () and seen.gaps == ()


def test_gaps_and_runs():
    landmarks = talking(0)
    landmarks[[0, 1, 5, 57, 58, 59]] = np.nan
    assert steadiness(clip_of(landmarks)).gaps == (2, 1, 3)
    assert runs(np.array([True, False, True, True])) == [(0, 1), (2, 2)]
    nowhere = steadiness(clip_of(np.full((5, 478, 3), np.nan, np.float32)))
    assert nowhere.gaps == (5,) and nowhere.jitter is None and nowhere.measures_TD.shape == (0, 7)


def test_near_duplicates_against_all_pairs():
    rng = np.random.default_rng(0)
    signatures = rng.normal(0, 1, (40, 30)).astype(np.float32)
    signatures[30] = signatures[2] + 0.1 * rng.normal(0, 1, 30)
    signatures[31] = signatures[3] * 1.1
    signatures[4] = signatures[5]
    splits = ["train"] * 25 + ["val"] * 5 + ["test"] * 10
    found = near_duplicates([str(n) for n in range(40)], signatures, splits)
    expected = {}
    for a in range(40):
        for b in range(a + 1, 40):
            apart = np.linalg.norm(signatures[a] - signatures[b])
            relative = apart / max(np.linalg.norm(signatures[a]), np.linalg.norm(signatures[b]))
            if splits[a] != splits[b] and relative < 0.2:
                expected[str(a), str(b)] = relative
    assert {(pair.first, pair.second) for pair in found} == set(expected) == {("2", "30"), ("3", "31")}
    for pair in found:
        assert pair.distance == pytest.approx(expected[pair.first, pair.second], abs=1e-3)


def test_signatures_do_not_know_place_or_length():
    lips = talking(0)[:, list(LIPS)]
    slow = np.repeat(lips, 2, axis=0)
    moved = lips + np.linspace(0, 1, len(lips), dtype=np.float32)[:, None, None]
    size = np.linalg.norm(signature(lips))
    assert np.linalg.norm(signature(moved) - signature(lips)) < 1e-4 * size + 1e-6
    assert np.linalg.norm(signature(slow) - signature(lips)) < 0.2 * size


def test_class_means_average_the_frames_of_the_word():
    means, rng = ClassMeans(5), np.random.default_rng(0)
    lips = rng.normal(0, 1, (2, 5, 40, 3))
    speech = np.array([[0, 1, 1, 0, 0], [0, 0, 1, 1, 0]], bool)
    frames = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]], bool)
    for row in range(2):
        means.add("word", lips[row], frames[row], speech[row])
    (mean,) = means.means()
    shapes = np.concatenate([lips[row][speech[row]][..., :2] for row in range(2)])
    np.testing.assert_allclose(mean.shape_V2, (shapes - shapes.mean(axis=1, keepdims=True)).mean(axis=0))
    gap = np.linalg.norm(lips[:, :, LIPS.index(13)] - lips[:, :, LIPS.index(14)], axis=-1)
    np.testing.assert_allclose(mean.opening_T, [gap[0, 0], *gap[:, 1:].mean(axis=0)])
    assert mean.examples == 2 and mean.speech_T.tolist() == [0, 0.5, 1, 0.5, 0]


def test_words_of_any_script_are_drawn():
    means = ClassMeans(3)
    for word in ("$\\frac", "말", "<b>"):
        means.add(word, talking(0, frames=3)[:, list(LIPS)], np.ones(3, bool), np.ones(3, bool))
    assert class_sheet(means.means()).startswith(b"\x89PNG")


def test_samples_are_even_and_bounded():
    sample = Sample(8)
    for number in range(1000):
        sample.offer(number)
    steps = set(np.diff(sample.items))
    assert 4 <= len(sample.items) <= 8 and len(steps) == 1 and sample.items[0] == 0


# The command


def fails(capsys, *arguments) -> str:
    assert guarded(command.run, [str(a) for a in arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("jaxlip: ")
    return said


def test_command_writes_a_page_that_stands_alone(clean, tmp_path, capsys):
    clean.data()
    command.run([str(clean.root), "--out", str(tmp_path / "out"), "--data.preset", "lips40"])
    said = capsys.readouterr().out
    assert "train     54 clips" in said and "324 words,  51 classes  2 speakers" in said
    report = json.loads((tmp_path / "out/inspect.json").read_text())
    assert report["data"]["source"] == "grid" and report["data"]["preset"] == "lips40"
    assert report["splits"]["val"]["text_words"] == {"min": 6, "median": 6, "max": 6}
    assert report["speakers"] == {"s1": {"train": 27}, "s2": {"train": 27}, "s3": {"val": 9}, "s4": {"test": 9}}
    assert len(report["per_clip"]) == 72 and report["words"][0] == {"word": "bin", "train": 7, "val": 2, "test": 2}
    page = (tmp_path / "out/inspect.html").read_text()
    assert "http" not in page and "<script" not in page and page.count("data:image/png;base64,") == 4
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == ["clips_test.png", "clips_train.png", "clips_val.png", "words.png"]
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_folders_of_landmarks_without_words(clean, tmp_path, capsys):
    command.run([str(clean.root / "landmarks"), "--out", str(tmp_path), "--data.preset", "lips40"])
    report = json.loads((tmp_path / "inspect.json").read_text())
    assert report["data"]["source"] == "extracted" and report["splits"]["all"]["clips"] == 72
    assert {finding["kind"] for finding in report["findings"]} <= {
        *("no_words", "unknown_speakers", "twin_slots_by_definition")
    }
    assert not (tmp_path / "words.png").exists()
    assert "speakers unknown" in capsys.readouterr().out


def test_shards_are_inspected_as_their_source_is(clean, tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="needs the extra data")
    seen, shards = inspect(clean.data()), tmp_path / "shards"
    prepare.run(["--source", "grid", "--root", str(clean.root), "--out", str(shards), "--preset", "lips40"])
    command.run([str(shards), "--out", str(tmp_path / "out"), "--data.preset", "lips40"])
    report = json.loads((tmp_path / "out/inspect.json").read_text())
    assert report["data"]["source"] == "prepared"
    assert {entry["word"]: entry["train"] for entry in report["words"]} == seen.words["train"]
    assert report["speakers"]["s2"] == {"train": 27}
    assert {finding["kind"] for finding in report["findings"]} == {"twin_slots_by_definition"}


def test_built_in_corpus_from_a_config(tmp_path, capsys):
    (tmp_path / "c.py").write_text("from tiny import get_config\n")
    command.run(["--config", str(tmp_path / "c.py"), "--out", str(tmp_path / "out"), "--data.visemes.train", "12"])
    report = json.loads((tmp_path / "out/inspect.json").read_text())
    tiny = [f for f in report["findings"] if f["kind"] == "tiny_classes"]
    assert tiny[0]["names"] == [f"{entry['word']} (3)" for entry in report["words"]]
    assert report["splits"]["train"]["speakers"] == 12
    assert "look: 4 words with fewer than 5 training examples" in capsys.readouterr().out


def test_sentences_are_counted_by_their_words():
    seen = inspect(FaceData(preset="lips40", visemes=Visemes(words=4, train=6, val=3, test=0, sentence=3)))
    assert [len(clip.words) for clip in seen.used] == [3] * 9
    assert sum(seen.words["train"].values()) == 18
    kinds = {finding.kind: finding for finding in find_faults(seen)}
    assert kinds["empty_splits"].names == ("test",) and kinds["empty_splits"].severity == "warn"


def test_mistakes_are_one_line(clean, tmp_path, capsys):
    assert "--out is not set" in fails(capsys, clean.root)
    assert "is not a folder, nor" in fails(capsys, tmp_path / "nowhere", "--out", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "is no data that jaxlip knows" in fails(capsys, tmp_path / "empty", "--out", tmp_path / "o")
    wrong = ("--data.preset", "nose")
    assert "must be one of lips40" in fails(capsys, clean.root, "--out", tmp_path / "o", *wrong)
    assert "did you mean --data.preset" in fails(capsys, clean.root, "--out", tmp_path / "o", "--data.presett", "x")
    (tmp_path / "file").write_text("")
    small = ("--data.visemes.train", "4", "--data.visemes.val", "0", "--data.visemes.test", "0")
    assert "cannot be written" in fails(capsys, "--out", tmp_path / "file", *small)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.npz").write_text("no archive")
    assert "no clip can be read" in fails(capsys, tmp_path / "bad", "--out", tmp_path / "o")


def test_help_lists_the_data_options(capsys):
    with pytest.raises(SystemExit) as stop:
        guarded(command.run, ["--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0 and "--out DIR" in said and "--data.preset" in said


def test_commands_of_the_readme(grid_root, tmp_path, monkeypatch):
    repository = pathlib.Path(__file__).parents[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(repository / "configs")
    commands = re.findall(r"^jaxlip inspect (.*)$", (repository / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    for text in commands:
        text = text.replace("GRID", str(grid_root)).replace("SPLITS", str(grid_root / "splits.json"))
        few = ["--data.visemes.train", "8", "--data.visemes.val", "8", "--data.visemes.test", "8"]
        assert guarded(command.run, [*shlex.split(text), "--data.preset", "lips40", *few]) == 0
    assert (tmp_path / "looked/grid/inspect.html").is_file() and (tmp_path / "looked/v4/inspect.html").is_file()


def test_real_clips(grid_root):
    found = faults(FaceData(source="grid", root=str(grid_root)))
    assert found["speakers_in_several_splits"] == ["s1 (train, val, test)"]
    assert "duplicates_across_splits" not in found and "dead_slots" not in found and "frozen" not in found
