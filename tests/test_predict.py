"""Predicting: the same answers as evaluation from the same clips, videos, overlays, and what goes wrong."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
import tiny
from tiny import get_config

from jaxlip.cli import predict
from jaxlip.cli.main import guarded
from jaxlip.data.extract import Extraction, Extractor
from jaxlip.data.sources import visemes
from jaxlip.decode.times import TimedWord
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.predict.reader import Reader
from jaxlip.predict.recording import read_recording, spoken_span
from jaxlip.predict.subtitles import at, cues
from jaxlip.report.saved import load_saved
from jaxlip.tasks.answer import Answer

SENTENCES = tiny.get_sentences().data.visemes

NO_VIDEOS = Extractor(Extraction(), pathlib.Path())


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A function: config of visemes -> folder with one .npz a test clip, and the clips by name."""

    def write(config):
        folder = tmp_path_factory.mktemp("clips")
        found = {}
        for ref in visemes.find(config):
            if ref.split == "test":
                clip = visemes.load(config, ref)
                path = folder / f"{clip.name.replace('/', '-')}.npz"
                np.savez(path, landmarks=clip.landmarks, detected=clip.detected, fps=clip.fps, size=clip.size)
                found[clip.name] = (path, clip)
        return found

    return write


@pytest.fixture(scope="module")
def word_clips(clips):
    return clips(get_config().data.visemes)


def predicted(capsys, tmp_path, *arguments, code=0):
    """What is said, and the rows of --json."""
    assert guarded(predict.run, [*map(str, arguments), "--json", str(tmp_path / "said.json")]) == code
    return capsys.readouterr(), json.loads((tmp_path / "said.json").read_text())["videos"]


def says(capsys, *arguments):
    assert guarded(predict.run, [str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("jaxlip: ")
    return error


def test_words_get_the_probabilities_of_evaluation(runs_to_ask, word_clips, capsys, tmp_path):
    saved = load_saved(RunFolder.find("tiny", runs_to_ask))
    corpus = saved.corpus()
    outputs, _ = saved.predict(corpus, "test")
    logits_K = np.asarray(outputs[0][0], np.float64)
    name = corpus.splits["test"].names[0][0].partition("#")[0]
    path, clip = word_clips[name]
    (word,) = clip.words
    span = ["--span", word.start / clip.fps, word.end / clip.fps]
    captured, (row,) = predicted(capsys, tmp_path, "--run", "tiny", "--runs", runs_to_ask, path, *span)
    p_K = np.exp(logits_K - logits_K.max()) / np.exp(logits_K - logits_K.max()).sum()
    known = {saved.meta.spec.classes[k]: p for k, p in enumerate(p_K)}
    assert {r["word"]: pytest.approx(r["probability"], abs=1e-5) for r in row["likeliest"]} == known
    assert row["text"] == max(known, key=known.get) and not row["notes"]
    assert row["words"][0]["start"] == pytest.approx(np.floor(word.start) / 25)
    assert f"{path}: {row['text']}" in captured.out and "%" in captured.out
    path.with_suffix(".txt").write_text(f"Start: {span[1]}\nEnd: {span[2]}\n")
    beside = predicted(capsys, tmp_path, "--run", "tiny", "--runs", runs_to_ask, path)[1][0]
    path.with_suffix(".txt").unlink()
    assert beside == row
    unknown = predicted(capsys, tmp_path, "--run", "tiny", "--runs", runs_to_ask, path)[1][0]
    assert "is not known" in unknown["notes"][0]


@pytest.mark.parametrize("decoder", ["greedy", "beam", "lexicon"])
def test_sentences_are_read_as_in_evaluation(runs_to_ask, clips, decoder):
    """With parameters at random, so that there is something to read."""
    saved = load_saved(RunFolder.find("sentences", runs_to_ask))
    noise = {
        name: 0.3 * jax.random.normal(jax.random.key(len(name)), p.shape) for name, p in saved.state.params.items()
    }
    saved = dataclasses.replace(saved, state=dataclasses.replace(saved.state, params=noise, average={}))
    corpus = saved.corpus()
    outputs, _ = saved.predict(corpus, "test")
    scores = saved.task.score(outputs, corpus.splits["test"], corpus.splits["train"], saved.meta.spec)
    reader = Reader(saved, decoder)
    files = clips(SENTENCES)
    rows = scores.tables["transcripts"]
    assert len(rows) == 8 and any(row[decoder] for row in rows)
    for row in rows:
        answer = reader.read_recording(read_recording(files[row["clip"]][0], NO_VIDEOS))
        assert answer.text == row[decoder]
        assert " ".join(word.text for word in answer.words) == " ".join(answer.text.split())
        assert all(0 <= w.start < w.end <= 3 and 0 <= w.confidence <= 1 for w in answer.words)
    if decoder == "lexicon":
        timed = [row for row in scores.tables["timings"] if row["clip"] == rows[0]["clip"]]
        assert {row["end_frame"] for row in timed} <= set(range(76))


def test_a_long_clip_is_read_in_pieces(runs_to_ask, clips, tmp_path):
    files = [path for path, _ in clips(SENTENCES).values()]
    arrays = [dict(np.load(path)) for path in files[:4]]
    whole = {name: np.concatenate([a[name] for a in arrays]) for name in ("landmarks", "detected")}
    np.savez(tmp_path / "long.npz", **{**arrays[0], **whole})
    reader = Reader(load_saved(RunFolder.find("sentences", runs_to_ask)))
    answer = reader.read_recording(read_recording(tmp_path / "long.npz", NO_VIDEOS))
    assert "in" in answer.notes[0] and "pieces" in answer.notes[0]


def test_another_frame_rate_is_brought_to_the_runs(runs_to_ask, word_clips, capsys, tmp_path):
    path, _ = next(iter(word_clips.values()))
    arrays = dict(np.load(path))
    np.savez(
        tmp_path / "fast.npz",
        **{**arrays, "fps": 50.0, "landmarks": np.repeat(arrays["landmarks"], 2, axis=0)}
        | {"detected": np.repeat(arrays["detected"], 2)},
    )
    _, rows = predicted(capsys, tmp_path, "--run", "tiny", "--runs", runs_to_ask, path, tmp_path / "fast.npz")
    assert rows[1]["likeliest"][0] == pytest.approx(rows[0]["likeliest"][0])
    assert any("interpolated to the 25" in note for note in rows[1]["notes"])


def test_one_bad_clip_among_many_is_reported_and_the_others_go_on(runs_to_ask, word_clips, capsys, tmp_path):
    path, clip = next(iter(word_clips.values()))
    (tmp_path / "broken.npz").write_bytes(path.read_bytes()[:1000])
    nobody = np.zeros(len(clip.detected), bool)
    np.savez(tmp_path / "nobody.npz", **{**dict(np.load(path)), "detected": nobody})
    np.savez(tmp_path / "seldom.npz", **{**dict(np.load(path)), "detected": np.arange(len(nobody)) < 5})
    np.savez(tmp_path / "slow.npz", **{**dict(np.load(path)), "fps": 2.0})
    bad = [tmp_path / f"{name}.npz" for name in ("broken", "nobody", "seldom", "slow")]
    captured, rows = predicted(capsys, tmp_path, "--run", "tiny", "--runs", runs_to_ask, *bad, path, code=2)
    assert [row["status"] for row in rows] == ["failed"] * 4 + ["ok"]
    for row, reason in zip(rows, ("not a readable", "no face", "less than 70%", "are too few"), strict=False):
        assert reason in row["reason"] and row["reason"] in captured.out
    assert captured.err.startswith("jaxlip: 4 of 5 videos failed") and captured.err.count("\n") == 1


def test_mistakes_are_one_line(runs_to_ask, word_clips, capsys, tmp_path):
    path, _ = next(iter(word_clips.values()))
    tiny = ["--run", "tiny", "--runs", runs_to_ask]
    assert "there is no run 'nobody'" in says(capsys, "--run", "nobody", "--runs", runs_to_ask, path)
    assert "does not exist" in says(capsys, *tiny, tmp_path / "nothing.mp4")
    assert "needs pictures" in says(capsys, *tiny, path, "--overlay", tmp_path / "a.mp4")
    assert "--json" in says(capsys, *tiny, path, "--json", tmp_path / "none/a.json")
    assert "has probability" in says(capsys, *tiny, path, "--decoder", "beam")
    assert "videos failed" in says(capsys, *tiny, path, "--span", 50, 51)
    sentences = ["--run", "sentences", "--runs", runs_to_ask]
    assert "whole sentences" in says(capsys, *sentences, path, "--span", 0, 1)
    assert "it has lexicon, beam, greedy" in says(capsys, *sentences, path, "--decoder", "grammar")
    assert "only --task.decode.* may change" in says(capsys, *sentences, path, "--optim.lr", 1)


def test_a_run_of_another_kind(runs_to_ask):
    saved = load_saved(RunFolder.find("tiny", runs_to_ask))
    other = dataclasses.replace(saved.meta.experiment, data=visemes.Visemes())
    with pytest.raises(UserError, match="is of another kind"):
        Reader(dataclasses.replace(saved, meta=dataclasses.replace(saved.meta, experiment=other)))


def test_when_a_word_is_spoken(tmp_path):
    video, beside = tmp_path / "a.mp4", tmp_path / "a.txt"
    assert spoken_span(video, None, 2.0) is None and spoken_span(video, (0.5, 1.0), 2.0) == (0.5, 1.0)
    beside.write_text("Text: BIN\nDuration: 0.5 seconds\n")
    assert spoken_span(video, None, 2.0) == (0.75, 1.25) and spoken_span(video, (0.1, 0.2), 2.0) == (0.1, 0.2)
    beside.write_text("Start: 1.5\nEnd: 1.2\n")
    with pytest.raises(UserError, match="a.txt 1.5 to 1.2 s is no stretch of a.mp4"):
        spoken_span(video, None, 2.0)
    beside.write_text("Text: BIN\n")
    assert spoken_span(video, None, 2.0) is None


def timed(*times):
    words = [TimedWord(text=f"word{i}", start=float(a), end=float(b), confidence=0.9) for i, (a, b) in enumerate(times)]
    return Answer(text=" ".join(w.text for w in words), words=tuple(words))


def test_subtitles():
    shown = cues(timed((0.5, 0.8), (0.9, 1.2), (4.0, 4.5)))
    assert [len(cue.words) for cue in shown] == [2, 1]
    assert (
        at(shown, 0.1) is None and at(shown, 0.3) is shown[0] and at(shown, 3.0) is None and at(shown, 3.8) is shown[1]
    )
    spoken = [shown[0].spoken_at(t) for t in (0.4, 0.6, 0.85, 1.0, 1.5)]
    assert [word and word.text for word in spoken] == [None, "word0", "word0", "word1", None]
    many = cues(timed(*((i, i + 0.5) for i in range(30))))
    assert all(sum(len(w.text) + 1 for w in cue.words) <= 41 for cue in many)
    assert all(a.end <= b.start for a, b in zip(many, many[1:], strict=False))
    assert sum(len(cue.words) for cue in many) == 30 and cues(timed()) == []
