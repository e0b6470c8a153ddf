"""LRW, LRS and CSV manifests: the clips that they give, and what is said where something is wrong."""

import dataclasses

import numpy as np
import pytest
from trees import (
    SENTENCES,
    WORDS,
    csv_tree,
    lrs_tree,
    lrw_tree,
    on,
    viseme_clips,
    write_landmarks,
    write_rows,
    write_text,
)

from jaxlip.data.clips import Clip, DamagedClip, SpokenWord
from jaxlip.data.sentences import load_sentences
from jaxlip.data.sources import lrs, lrw
from jaxlip.data.vocab import Vocabulary
from jaxlip.data.words import load_words
from jaxlip.errors import UserError


def characters(words):
    return Vocabulary.of_characters([" ".join(words)])


def read(config) -> list[Clip]:
    clips = [clip for _, clip in config.clips()]
    assert all(isinstance(clip, Clip) for clip in clips), clips
    return clips


def assert_same_clips(got: list[Clip], want: list[Clip]) -> None:
    """The same faces saying the same words at the same times, in any order and under any name."""

    def key(clip):
        return clip.landmarks[clip.detected].tobytes()

    assert len(got) == len(want)
    for a, b in zip(sorted(got, key=key), sorted(want, key=key), strict=True):
        assert key(a) == key(b) and a.split == b.split and a.fps == b.fps and a.size == b.size
        assert [word.text for word in a.words] == [word.text for word in b.words]
        np.testing.assert_allclose(
            [(w.start, w.end) for w in a.words], [(w.start, w.end) for w in b.words], rtol=1e-9, atol=1e-9
        )


# LRW


@pytest.mark.parametrize("parallel", [False, True])
def test_lrw_folders_give_the_clips_that_were_written(tmp_path, parallel):
    landmarks = tmp_path / "elsewhere" if parallel else None
    written = lrw_tree(tmp_path / "lrw", landmarks)
    config = on("lrw", tmp_path / "lrw", landmarks=str(landmarks) if landmarks else None)
    assert_same_clips(read(config), written)
    assert config.vocabulary() == tuple(sorted({clip.words[0].text for clip in written}))
    corpus = load_words(config)
    assert corpus.counts["examples"] == {"train": 16, "val": 8, "test": 8}


def test_duration_is_centred_and_start_and_end_go_first():
    # LRW: 29 frames at 25 fps; a word of .52 s lasts 13 frames, from 8 to 21.
    lines = "Disk reference: 6\nChannel: BBC1\nClip start: 5.2\nDuration: 0.52 seconds\n"
    assert lrw.word_span(lines, frames=29, fps=25.0) == pytest.approx((8, 21))
    assert lrw.word_span("Start: 0.4\nEnd: 0.8\n" + lines, frames=29, fps=25.0) == pytest.approx((10, 20))


@pytest.mark.parametrize(
    "text,says",
    [
        ("", "neither `Start:`"),
        ("Start: 1.0", "neither `Start:`"),
        ("Start: 1\nEnd: 0.5", "ends at frame 12.5"),
        ("Start: 1\nEnd: 1.2.3", "no number of seconds"),
    ],
)
def test_lrw_texts_that_say_nothing(text, says):
    with pytest.raises(DamagedClip, match=says):
        lrw.word_span(text, frames=29, fps=25.0)


def test_lrw_counts_what_is_missing(tmp_path):
    lrw_tree(tmp_path)
    texts = sorted(tmp_path.glob("*/train/*.txt"))
    texts[0].unlink()
    texts[1].with_suffix(".npz").unlink()
    texts[2].write_text("nothing")
    reasons = {ref.name: clip for ref, clip in on("lrw", tmp_path).clips() if isinstance(clip, str)}
    names = [path.relative_to(tmp_path).with_suffix("").as_posix() for path in texts[:3]]
    assert [reasons[name].split(" ")[:3] for name in names] == [["no", ".txt", "file"], ["no", "landmark", "file"]] + [
        ["the", "text", "file"]
    ]
    assert sum(load_words(on("lrw", tmp_path)).counts["left_out"].values()) == 3


@pytest.mark.parametrize("source", ["lrw", "lrs", "manifest"])
def test_missing_landmarks_name_the_command_that_makes_them(tmp_path, source):
    {"lrw": lrw_tree, "lrs": lrs_tree, "manifest": csv_tree}[source](tmp_path)
    for path in tmp_path.rglob("*.npz"):
        path.unlink()
    with pytest.raises(UserError, match="landmark file.*`jaxlip extract`.*--landmarks DIR"):
        list(on(source, tmp_path).clips())


def test_wrong_folders_are_named(tmp_path):
    for source, says in [("lrw", "no folder <word>/train"), ("lrs", "none of the folders"), ("manifest", "not a file")]:
        with pytest.raises(UserError, match=says):
            list(on(source, tmp_path).clips())
        with pytest.raises(UserError, match="data.root is not set"):
            list(dataclasses.replace(on(source, tmp_path), root=None).clips())


# LRS


def test_lrs_folders_give_the_sentences_that_were_written(tmp_path):
    written = [
        dataclasses.replace(
            clip,
            words=tuple(dataclasses.replace(word, text=word.text.upper()) for word in clip.words),
        )
        for clip in lrs_tree(tmp_path)
    ]
    got = read(on("lrs", tmp_path))
    assert len(got) == len(written)
    by_face = {clip.landmarks.tobytes(): clip for clip in written}
    for clip in got:
        ref = by_face.pop(clip.landmarks.tobytes())
        assert clip.split == ref.split and clip.speaker == ref.speaker
        assert [w.text for w in clip.words] == [w.text for w in ref.words]
        times = [(w.start, w.end) for w in ref.words]
        # The files have four decimals of a second.
        np.testing.assert_allclose([(w.start, w.end) for w in clip.words], times, atol=25 * 5.1e-5)


def test_lrs2_lists_decide_the_split(tmp_path):
    clip = viseme_clips(WORDS)[0]
    for name in ("main/v1/1", "main/v1/2", "main/v2/1", "pretrain/v3/1"):
        write_landmarks(tmp_path / f"{name}.npz", clip)
        write_text(tmp_path / f"{name}.txt", "Text:  HELLO\nConf: 3\n")
    write_text(tmp_path / "train.txt", "v1/1\n")
    write_text(tmp_path / "test.txt", "v2/1 MV\n")
    got = {ref.name: ref.split for ref in lrs.find(on("lrs", tmp_path))}
    assert got == {"pretrain/v3/1": "train", "main/v1/1": "train", "main/v2/1": "test"}


def test_lrs_texts():
    timed = lrs.parse_text("Text:  HI YOU\nConf: 3\n\nWORD START END ASDSCORE\nHI 0.2 0.4 1\nYOU 0.4 0.52 2\n", 25.0)
    assert timed == (SpokenWord(text="HI", start=5.0, end=10.0), SpokenWord(text="YOU", start=10.0, end=13.0))
    untimed = lrs.parse_text("Text:  HI YOU\nConf: 3\n", 25.0)
    assert [word.text for word in untimed] == ["HI", "YOU"] and not any(word.timed for word in untimed)
    assert not untimed[0].frames(9).any()
    for text, says in [
        ("Conf: 3", "no line `Text:`"),
        ("Text: A B\nWORD START END\nA 0 1\n", "not those of the line"),
        ("Text: A\nWORD START END\nA 0\n", "text line 3"),
        ("Text: A\nWORD START END\nA 2 1 3\n", "text line 3"),
    ]:
        with pytest.raises(DamagedClip, match=says):
            lrs.parse_text(text, 25.0)


def test_words_that_training_never_heard_are_told(tmp_path):
    lrs_tree(tmp_path)
    test = next(tmp_path.glob("test/*/*.txt"))
    test.write_text("Text:  ZYMURGY\n")
    config = on("lrs", tmp_path)
    assert "ZYMURGY" in config.vocabulary()
    corpus = load_sentences(config, characters)
    assert any("1 of the" in note and "test split (ZYMURGY)" in note for note in corpus.notes)


def test_untimed_sentences_have_tokens_and_no_word_frames(tmp_path):
    lrs_tree(tmp_path)
    for path in tmp_path.rglob("*.txt"):
        path.write_text(path.read_text().partition("WORD")[0])
    corpus = load_sentences(on("lrs", tmp_path), characters)
    for batch in corpus.splits["train"].buckets:
        assert batch.target.tokens.tokens_BN.any(axis=1).all() and (batch.target.word_BT == -1).all()
    with pytest.raises(UserError, match="nobody knows when the word is spoken"):
        load_words(on("lrs", tmp_path))


def test_words_that_the_rules_cut_in_two_keep_the_places_of_the_others(tmp_path):
    lrs_tree(tmp_path)
    path = next(tmp_path.glob("trainval/*/*.txt"))
    path.write_text("Text:  AB CD-EF GH\n\nWORD START END ASD\nAB 0.2 0.4 1\nCD-EF 0.4 0.6 1\nGH 0.6 0.8 1\n")
    corpus = load_sentences(on("lrs", tmp_path), characters)
    name = path.relative_to(tmp_path).with_suffix("").as_posix()
    ((batch, row),) = [
        (batch, names.index(name))
        for split in corpus.splits.values()
        for batch, names in zip(split.buckets, split.names, strict=True)
        if name in names
    ]
    assert (
        corpus.spec.words.decode(batch.target.words.labels_BN[row][batch.target.words.tokens_BN[row]]) == "ab cd ef gh"
    )
    assert batch.target.word_BT[row][5:20].tolist() == [0] * 5 + [-1] * 5 + [3] * 5


# CSV


def test_a_table_gives_the_clips_that_were_written(tmp_path):
    written = csv_tree(tmp_path, say=lambda text: f"ş{text} 1")
    want = [
        dataclasses.replace(clip, words=tuple(dataclasses.replace(w, text=f"ş{w.text} 1") for w in clip.words))
        for clip in written
    ]
    for root in (tmp_path, tmp_path / "manifest.csv"):
        got = read(on("manifest", root))
        assert_same_clips(got, want)
        assert {clip.speaker for clip in got} == {clip.speaker for clip in want}
    assert load_words(on("manifest", tmp_path)).counts["examples"] == {"train": 16, "val": 8, "test": 8}


def test_rows_of_a_clip_are_its_words_and_a_lone_label_lasts_the_clip(tmp_path):
    clip = viseme_clips(WORDS)[0]
    for name in ("a", "b"):
        write_landmarks(tmp_path / f"{name}.npz", clip)
    rows = [("a", "one", "0", "0.2"), ("b.npz", "two", "", ""), ("a", "three", "0.2", "0.4")]
    table = [dict(zip(("clip", "label", "start", "end"), row, strict=True), split="train") for row in rows]
    write_rows(tmp_path / "manifest.csv", table)
    a, b = read(on("manifest", tmp_path))
    assert [(w.text, w.start, w.end) for w in a.words] == [("one", 0, 5), ("three", 5, 10)]
    assert [(w.text, w.start, w.end) for w in b.words] == [("two", 0, len(clip.landmarks))]


def test_texts_of_any_language_are_cut_at_white_space(tmp_path):
    clips = viseme_clips(SENTENCES)
    texts = ["Γειά σου κόσμε", "merhaba dünya", "नमस्ते दुनिया"]
    rows = []
    for number, clip in enumerate(clips):
        write_landmarks(tmp_path / f"{number}.npz", clip)
        rows.append({"clip": str(number), "split": clip.split, "text": texts[number % 3]})
    write_rows(tmp_path / "manifest.csv", rows)
    corpus = load_sentences(on("manifest", tmp_path), characters)
    spec = corpus.spec
    said = set()
    for batch in corpus.splits["train"].buckets:
        for labels_N, tokens_N in zip(batch.target.tokens.labels_BN, batch.target.tokens.tokens_BN, strict=True):
            said.add(spec.vocabulary.decode(labels_N[tokens_N]))
    assert said == {spec.vocabulary.rules(text) for text in texts}


GOOD = {"clip": "a", "split": "train", "label": "x", "start": "0", "end": "1", "speaker": "s"}


@pytest.mark.parametrize(
    "rows,says",
    [
        ([{"clip": "a", "split": "train"}], "either label or text"),
        ([{**GOOD, "text": "y"}], "either label or text"),
        ([{**GOOD, "colour": "red"}], "line 1 has the columns"),
        ([GOOD, {**GOOD, "split": "dev"}], "line 3: clip='a' split='dev'"),
        ([{**GOOD, "end": "soon"}], "line 2: end='soon'"),
        ([{**GOOD, "end": "inf"}], "line 2: end='inf'"),
        ([{**GOOD, "end": ""}], "both start and end"),
        ([{**GOOD, "end": "-1"}], "is not after start"),
        ([{**GOOD, "label": " "}], "label is empty"),
        ([GOOD, {**GOOD, "split": "val"}], "is in train by s in an earlier line, and here in val"),
    ],
)
def test_wrong_tables_name_the_line(tmp_path, rows, says):
    write_rows(tmp_path / "manifest.csv", rows)
    with pytest.raises(UserError, match=says):
        list(on("manifest", tmp_path).clips())


def test_tables_that_are_none(tmp_path):
    path = tmp_path / "manifest.csv"
    for content, says in [
        (b"clip,split,label\na,train\n", "line 2 does not have 3 columns"),
        (b"clip,split,label\n", "no rows"),
        (b"", "line 1 has the columns"),
        (b"clip,split,label\na,train,\xff\n", "is not UTF-8"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=says):
            list(on("manifest", tmp_path).clips())


def test_a_clip_without_landmarks_is_counted(tmp_path):
    csv_tree(tmp_path)
    (tmp_path / "faces/000.npz").unlink()
    reasons = [clip for _, clip in on("manifest", tmp_path).clips() if isinstance(clip, str)]
    assert reasons == ["no landmark file"]
