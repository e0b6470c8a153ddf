"""Reading GRID: transcripts, damaged files, splits, and words as windows of frames."""

import collections
import json
import math

import numpy as np
import pytest

from jaxlip.data.clips import DamagedClip
from jaxlip.data.face import FaceData, prepare
from jaxlip.data.sources import grid
from jaxlip.data.sources.folders import hashed_split
from jaxlip.data.words import load_words
from jaxlip.errors import UserError
from jaxlip.face.mean_face import mean_face

T = 75
ALIGN = "0 20000 sil\n20000 26500 bin\n26500 30000 blue\n30000 33000 sp\n33000 37250 at\n37250 75000 sil\n"
SPLITS = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


def raw(frames=T, seed=0, **changes):
    """What the extraction stage writes for a face that moves a little."""
    rng = np.random.default_rng(seed)
    face_TVC = mean_face() * 0.15 + [0.5, 0.4, 0.0] + rng.normal(0, 0.002, (frames, 478, 3))
    return {
        "landmarks": face_TVC.astype(np.float32),
        "detected": np.ones(frames, bool),
        "fps": np.float32(25),
        "size": np.array([360, 288]),
    } | changes


def lost(where, **changes):
    """A clip without a face in the frames `where`."""
    arrays = raw(**changes)
    arrays["detected"][where] = False
    arrays["landmarks"][where] = np.nan
    return arrays


def write(root, name, arrays=None, align=ALIGN):
    for folder in ("landmarks/s1", "align/s1"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    np.savez(root / f"landmarks/s1/{name}.npz", **(raw() if arrays is None else arrays))
    if align is not None:
        (root / f"align/s1/{name}.align").write_text(align)


@pytest.fixture
def root(tmp_path):
    """Four clips of three words, in three splits."""
    for seed, name in enumerate("abcd"):
        write(tmp_path, name, raw(seed=seed))
    (tmp_path / "splits.json").write_text(json.dumps(SPLITS))
    return tmp_path


def data(root, **changes):
    return FaceData(source="grid", root=str(root), preset="lips40", **changes)


def left_out(config) -> dict[str, str]:
    return {ref.name: clip for ref, clip in config.clips() if isinstance(clip, str)}


# Transcripts


def test_align_times_are_frames_with_fractions_and_silences_are_left_out():
    words = grid.parse_align(ALIGN)
    assert [(w.text, w.start, w.end) for w in words] == [("bin", 20, 26.5), ("blue", 26.5, 30), ("at", 33, 37.25)]


def test_blank_lines_are_no_mistake():
    assert grid.parse_align("\n0 1000 bin\n\n   \n") == grid.parse_align("0 1000 bin")


@pytest.mark.parametrize("line", ["1000 2000", "1000 2000 bin blue", "one 2000 bin", "1000 2.5 bin", "2000 2000 bin"])
def test_a_malformed_line_is_named(line):
    with pytest.raises(DamagedClip, match=f"line 2.*{line}"):
        grid.parse_align(f"0 1000 sil\n{line}\n")


def test_the_vocabulary_is_the_grammar():
    assert len(grid.WORDS) == len(set(grid.WORDS)) == 4 + 4 + 4 + 25 + 10 + 4
    assert "w" not in grid.WORDS and not {"sil", "sp"} & set(grid.WORDS)


# Damaged files


def truncated(path):
    path.write_bytes(path.read_bytes()[:5000])


def bit_rot(path):
    np.savez_compressed(path, **raw())
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)


def plain_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


DAMAGE = {
    "cut short": (truncated, "not a readable .npz"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable .npz"),
    "text": (lambda path: path.write_text("hello"), "not a readable .npz"),
    "rotten": (bit_rot, "not a readable .npz"),
    "not an archive": (plain_array, "not a readable .npz"),
    "no detected": (
        lambda path: np.savez(path, **{k: v for k, v in raw().items() if k != "detected"}),
        "keys detected are missing",
    ),
    "468 points": (lambda path: np.savez(path, **raw(landmarks=np.zeros((T, 468, 3)))), "shape (75, 468, 3)"),
    "other length": (lambda path: np.savez(path, **raw(detected=np.ones(T - 1, bool))), "75 frames of landmarks"),
    "no frames": (lambda path: np.savez(path, **raw(frames=0)), "no frames"),
    "no size": (lambda path: np.savez(path, **raw(size=np.array([360, 0]))), "size (360, 0)"),
    "size of three": (lambda path: np.savez(path, **raw(size=np.array([360, 288, 3]))), "not a readable .npz"),
    "size of one": (lambda path: np.savez(path, **raw(size=np.int64(360))), "not a readable .npz"),
    "many rates": (lambda path: np.savez(path, **raw(fps=np.array([25.0, 25.0]))), "not a readable .npz"),
}


@pytest.mark.parametrize("damage,reason", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_clip_is_told_and_the_others_are_read(root, damage, reason):
    damage(root / "landmarks/s1/b.npz")
    got = list(data(root).clips())
    assert [ref.name for ref, clip in got if not isinstance(clip, str)] == ["s1/a", "s1/c", "s1/d"]
    ((name, why),) = left_out(data(root)).items()
    assert name == "s1/b" and reason in why


def test_missing_and_unreadable_transcripts_are_told(root):
    (root / "align/s1/a.align").unlink()
    (root / "align/s1/b.align").write_bytes(b"\xff\xfe\x00bin")
    got = left_out(data(root))
    assert set(got) == {"s1/a", "s1/b"}
    assert got["s1/a"] == "no align file" and "line 1" in got["s1/b"]


def test_what_is_left_out_is_counted(root):
    truncated(root / "landmarks/s1/d.npz")
    write(root, "e", align=None)
    write(root, "f")
    (root / "splits.json").write_text(json.dumps(SPLITS | {"test": ["d", "e", "f"]}))
    corpus = load_words(data(root))
    left_out = corpus.counts["left_out"]
    assert corpus.counts["clips"] == 4 and corpus.counts["examples"] == {"train": 6, "val": 3, "test": 3}
    assert left_out["no align file"] == 1 and sum(left_out.values()) == 2
    assert any("s1/e" in note and "no align file" in note for note in corpus.notes)


def test_words_outside_the_vocabulary_are_counted(root):
    write(root, "d", align=ALIGN.replace("bin", "grab"))
    corpus = load_words(data(root))
    assert corpus.counts["examples"]["test"] == 2
    assert corpus.counts["left_out"] == {"word 'grab' is not in the vocabulary": 1}


@pytest.mark.parametrize("missing,kept", [(22, True), (23, False)])
def test_clips_with_too_few_faces_are_left_out_and_counted(root, missing, kept):
    # 53 of 75 frames are 70.7 %, 52 are 69.3 %.
    write(root, "d", lost(np.arange(T)[T - missing :]))
    corpus = load_words(data(root))
    assert ("test" in corpus.splits) is kept
    assert corpus.counts["left_out"] == ({} if kept else {"a face in less than 70% of the frames": 1})


def test_a_word_without_any_usable_frame_is_counted(root):
    write(root, "d", lost(np.arange(18, 40)))
    corpus = load_words(data(root, max_gap=5))
    assert corpus.counts["left_out"] == {"no usable frame during the word": 3}
    assert corpus.counts["examples"] == {"train": 6, "val": 3}


# Folders and splits


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="data.root is not set"):
        load_words(FaceData(source="grid"))
    with pytest.raises(UserError, match="nowhere is not a folder"):
        load_words(data(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="has no folder `landmarks`"):
        load_words(data(tmp_path))
    (tmp_path / "landmarks").mkdir()
    with pytest.raises(UserError, match="no landmark files"):
        load_words(data(tmp_path))


@pytest.mark.parametrize(
    "content,says",
    [
        ('{"train": ["a", "b"], "val": ["c", "a"]}', "clip a in both train and val"),
        ('{"train": ["x"]}', "names none of the 4 clips"),
        ("{train", "is not JSON"),
        ('["a", "b"]', "is not a table"),
        ('{"train": "a"}', "is not a table"),
        ('{"train": ["a", "b"], "test": ["c"]}', "no example in split val"),
    ],
)
def test_wrong_splits_are_told(root, content, says):
    (root / "splits.json").write_text(content)
    with pytest.raises(UserError, match=says):
        load_words(data(root))


def test_missing_splits_file_is_named(root):
    with pytest.raises(UserError, match="other.json cannot be read"):
        load_words(data(root, splits=str(root / "other.json")))


def test_splits_file_picks_clips_by_full_or_short_name(root):
    (root / "mine.json").write_text(json.dumps({"train": ["s1/d"], "val": ["b"]}))
    got = [(clip.name, clip.split) for _, clip in data(root, splits=str(root / "mine.json")).clips()]
    assert got == [("s1/b", "val"), ("s1/d", "train")]


def test_clips_that_the_splits_name_but_are_not_there_are_told(root):
    (root / "splits.json").write_text(json.dumps(SPLITS | {"test": ["d", "gone"]}))
    assert left_out(data(root)) == {"s1/gone": "no align file"}


def test_split_by_name_is_stable_and_80_10_10():
    names = [f"s{i // 100}/clip{i}" for i in range(5000)]
    counts = collections.Counter(map(hashed_split, names))
    for split, part in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        # Four standard errors.
        assert abs(counts[split] / 5000 - part) < 4 * math.sqrt(part * (1 - part) / 5000)
    # Written down once: a name must never change its split.
    assert [hashed_split(f"s1/{name}") for name in ("bbaf2n", "bbaf3s", "bbaf10n")] == ["train", "test", "val"]


def test_clips_are_split_by_name_where_there_is_no_file(root):
    (root / "splits.json").unlink()
    for _, clip in data(root).clips():
        assert clip.split == hashed_split(clip.name)


# Words as windows


def frames_by_hand(align: str):
    """(word, start, end) in frames of one clip."""
    rows = [line.split() for line in align.splitlines() if line.strip()]
    return [(word, int(start) / 1000, int(end) / 1000) for start, end, word in rows if word not in ("sil", "sp")]


def test_six_words_a_clip_centred_and_marked(grid_root):
    window = 29
    config = data(grid_root, window=window)
    corpus = load_words(config)
    splits = json.loads((grid_root / "splits.json").read_text())
    assert corpus.counts["examples"] == {split: 6 * len(names) for split, names in splits.items()}
    clips = {ref.name: clip for ref, clip in config.clips()}
    (batch,), (names,) = corpus.splits["val"].buckets, corpus.splits["val"].names
    assert batch.landmarks_BTVC.shape[1] == window and len(names) == len(set(names))
    for row, name in enumerate(names):
        clip_name, _, number = name.partition("#")
        number, _, text = number.partition(":")
        align = (grid_root / f"align/{clip_name}.align").read_text()
        word, start, end = frames_by_hand(align)[int(number)]
        assert word == text == corpus.spec.classes[batch.target[row]]
        prepared = prepare(clips[clip_name], config)
        firsts = [first for first in range(-window, T) if abs(first + window / 2 - (start + end) / 2) <= 0.5]
        matches = [first for first in firsts if window_matches(batch, row, prepared, first, window)]
        assert len(matches) == 1
        for t in range(window):
            frame = matches[0] + t
            speech = math.floor(start) <= frame < math.ceil(end)
            assert batch.speech_BT[row, t] == (speech and batch.frames_BT[row, t])


def window_matches(batch, row, prepared, first, window) -> bool:
    """Whether a row is the clip from frame `first` on, masked outside of the clip."""
    for t in range(window):
        frame = first + t
        if not 0 <= frame < len(prepared.frames_T):
            if batch.frames_BT[row, t] or batch.detected_BT[row, t] or batch.landmarks_BTVC[row, t].any():
                return False
        elif (
            batch.frames_BT[row, t] != prepared.frames_T[frame]
            or batch.detected_BT[row, t] != prepared.detected_T[frame]
            or not np.array_equal(batch.landmarks_BTVC[row, t], prepared.landmarks_TVC[frame])
        ):
            return False
    return True


def test_frames_outside_the_clip_are_masked(root):
    write(root, "c", raw(frames=30), align="0 3000 bin\n27500 30000 now\n")
    (batch,) = load_words(data(root)).splits["val"].buckets
    # The window of 29 around 0..3 begins 13 frames before the clip; that around 27.5..30 at frame 14.
    assert batch.frames_BT.tolist() == [[t >= 13 for t in range(29)], [t < 16 for t in range(29)]]
    assert np.flatnonzero(batch.speech_BT[0]).tolist() == [13, 14, 15]
    assert np.flatnonzero(batch.speech_BT[1]).tolist() == [13, 14, 15]
    assert not batch.landmarks_BTVC[~batch.frames_BT].any() and batch.landmarks_BTVC[batch.frames_BT].any()


def test_long_gaps_are_masked_and_short_ones_filled(root):
    write(root, "c", lost(np.r_[18, 28:34]), align="22000 26000 bin\n")
    (batch,) = load_words(data(root, max_gap=3)).splits["val"].buckets
    first = 10
    assert (np.flatnonzero(~batch.frames_BT[0]) + first).tolist() == list(range(28, 34))
    assert (np.flatnonzero(~batch.detected_BT[0]) + first).tolist() == [18, *range(28, 34)]
    assert np.isfinite(batch.landmarks_BTVC).all()
