"""Corpora in the layouts of LRW, LRS and the CSV manifest, made of the built-in corpus: clips of its viseme words."""

import contextlib
import csv
import dataclasses
import pathlib

import numpy as np

from jaxlip.data.clips import Clip
from jaxlip.data.face import FaceData
from jaxlip.data.signs import SignData
from jaxlip.data.sources import SIGN_SOURCES
from jaxlip.data.sources.glosses import Glosses
from jaxlip.data.sources.lrs import is_validation
from jaxlip.data.sources.visemes import Visemes

WORDS = Visemes(words=4, train=16, val=8, test=8)
SENTENCES = Visemes(words=6, train=12, val=4, test=4, sentence=3)


def viseme_clips(visemes: Visemes) -> list[Clip]:
    return [clip for _, clip in FaceData(visemes=visemes).clips() if isinstance(clip, Clip)]


def write_landmarks(path: pathlib.Path, clip: Clip) -> None:
    """What the extraction stage writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"landmarks": clip.landmarks, "detected": clip.detected, "fps": clip.fps, "size": np.array(clip.size)}
    np.savez(path, **arrays)


def write_text(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def lrw_tree(root: pathlib.Path, landmarks: pathlib.Path | None = None, visemes: Visemes = WORDS) -> list[Clip]:
    """Times as IDLRW gives them."""
    clips = viseme_clips(visemes)
    for number, clip in enumerate(clips):
        word = clip.words[0]
        name = f"{word.text}/{clip.split}/{word.text}_{number:05d}"
        write_landmarks((landmarks or root) / f"{name}.npz", clip)
        start, end = (float(time / clip.fps) for time in (word.start, word.end))
        write_text(root / f"{name}.txt", f"Start: {start!r}\nEnd: {end!r}\n")
    return clips


def lrs_tree(root: pathlib.Path, visemes: Visemes = SENTENCES) -> list[Clip]:
    """As LRS3: words in capitals with their times, a folder a speaker, validation by hash."""
    clips = [dataclasses.replace(clip, speaker=_video(clip)) for clip in viseme_clips(visemes)]
    for number, clip in enumerate(clips):
        part = "test" if clip.split == "test" else "trainval"
        rows = [f"{w.text.upper()} {w.start / clip.fps:.4f} {w.end / clip.fps:.4f} 5.1\n" for w in clip.words]
        said = " ".join(word.text.upper() for word in clip.words)
        base = root / part / clip.speaker / f"{number:05d}"
        write_landmarks(base.with_suffix(".npz"), clip)
        write_text(
            base.with_suffix(".txt"), f"Text:  {said}\nConf:  4\nRef:   x\n\nWORD START END ASDSCORE\n{''.join(rows)}"
        )
    return clips


def _video(clip: Clip) -> str:
    """A name for the clip's speaker that lies in the clip's split."""
    names = (f"{clip.speaker}-{n}" for n in range(100))
    return next(name for name in names if is_validation(name) == (clip.split == "val"))


def csv_tree(root: pathlib.Path, visemes: Visemes = WORDS, say=lambda text: text) -> list[Clip]:
    """One word a clip with its times; `say` writes it in another language."""
    clips = viseme_clips(visemes)
    rows = []
    for number, clip in enumerate(clips):
        word = clip.words[0]
        write_landmarks(root / f"faces/{number:03d}.npz", clip)
        rows.append(
            {
                "clip": f"faces/{number:03d}",
                "split": clip.split,
                "label": say(word.text),
                "start": repr(float(word.start / clip.fps)),
                "end": repr(float(word.end / clip.fps)),
                "speaker": clip.speaker,
            }
        )
    write_rows(root / "manifest.csv", rows)
    return clips


def write_rows(path: pathlib.Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def on(source: str, root: pathlib.Path, **changes) -> FaceData:
    return FaceData(source=source, root=str(root), preset="lips40", **changes)


def children(having: bytes) -> set[int]:
    """Processes that this one has started, with these bytes in their command line (Linux)."""
    found = set()
    for path in pathlib.Path("/proc/self/task").glob("*/children"):
        # Threads and children may end while they are looked at.
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                with contextlib.suppress(OSError):
                    if having in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
                        found.add(int(child))
    return found


def phoenix_tree(root: pathlib.Path, glosses: Glosses) -> list[Clip]:
    """The built-in signing in the layout of PHOENIX-2014 SI5: three tables, and a landmark file a clip."""
    tables: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    clips = [clip for _, clip in SIGN_SOURCES["glosses"].read(SignData(glosses=glosses)) if isinstance(clip, Clip)]
    for number, clip in enumerate(clips):
        table = {"val": "dev"}.get(clip.split, clip.split)
        name = f"01April_2010_heute_{number:04d}"
        said = " ".join(word.text for word in clip.words)
        tables[table].append(f"{name}|{name}/1/*.png|Signer{clip.speaker}|{said}")
        path = root / "landmarks" / table / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, landmarks=clip.landmarks, fps=clip.fps, size=np.array(clip.size))
    for table, rows in tables.items():
        write_text(root / f"{table}.SI5.corpus.csv", "\n".join(["id|folder|signer|annotation", *rows]) + "\n")
    return clips
