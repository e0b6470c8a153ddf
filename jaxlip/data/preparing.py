"""A source -> shards and their manifest: reading, checking, writing. Of a clip, only its entry stays in memory."""

import contextlib
import dataclasses
import itertools
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jaxlip
from jaxlip.data.clips import ClipRef, DamagedClip
from jaxlip.data.crew import Died, OrderedMap
from jaxlip.data.face import FaceData
from jaxlip.data.records import Entry, Record, describe, encode, kept_ids
from jaxlip.data.sources import SOURCES
from jaxlip.data.sources.folders import SPLITS
from jaxlip.data.store import MANIFEST, import_tfds, write_manifest, write_shards
from jaxlip.data.survey import Survey, refuse_shared_speakers
from jaxlip.errors import UserError

AHEAD = 64
"""Clips a worker that are read before the first of them is written."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """What to prepare, and how."""

    data: FaceData
    """The source, where it is, and the preset."""
    out: pathlib.Path
    shards: int | None = None
    """Files a split; None leaves it to TFDS, by size."""
    workers: int = 1
    """Processes that read clips."""
    speaker_disjoint: bool = False
    """Whether the splits claim to share no speaker."""
    allowed: tuple[str, ...] = ()
    """Defects that do not stop the preparation (survey.ALLOWED)."""

    @property
    def ids(self) -> tuple[int, ...]:
        return kept_ids(self.data.preset)


Prepared = tuple[Record, Entry] | tuple[str, str]
"""A record with its entry, or the name of a clip and why it is left out."""


def prepare_clip(data: FaceData, ids: tuple[int, ...], number: int, ref: ClipRef) -> Prepared:
    """Reads one clip, the `number`-th of its split, and makes its record."""
    try:
        clip = SOURCES[data.source].load(data, ref)
        record = encode(clip, ids, number)
    except DamagedClip as damage:
        return ref.name, str(damage)
    return record, describe(clip, record, ids)


def _prepare_one(task: tuple[FaceData, tuple[int, ...], int, ClipRef]) -> Prepared:
    return prepare_clip(*task)


def find_clips(preparation: Preparation) -> dict[str, list[ClipRef]]:
    """Split -> its clips. Raises UserError for an unknown split, or speakers on both sides of disjoint ones."""
    found: dict[str, list[ClipRef]] = {}
    for ref in SOURCES[preparation.data.source].find(preparation.data):
        found.setdefault(ref.split, []).append(ref)
    if unknown := sorted(found.keys() - set(SPLITS)):
        raise UserError(f"{found[unknown[0]][0].name}: split {unknown[0]!r} is none of {', '.join(SPLITS)}.")
    if preparation.speaker_disjoint:
        # Before anything is read, which takes hours.
        refuse_shared_speakers(
            {split: {ref.speaker for ref in refs} for split, refs in found.items()}, preparation.allowed
        )
    return found


def _mapped(preparation: Preparation, refs: Iterable[ClipRef], pool: Any) -> Iterator[Prepared]:
    """Every clip prepared, in order; a pool works on a bounded stretch at a time."""
    tasks = ((preparation.data, preparation.ids, number, ref) for number, ref in enumerate(refs))
    if pool is None:
        yield from map(_prepare_one, tasks)
        return
    try:
        yield from pool(tasks, ahead=AHEAD)
    except Died as death:
        raise UserError(f"a process that reads clips {death}; is there memory for so many --workers?") from None


def _examples(prepared: Iterator[Prepared], add: Callable[[Prepared], None]) -> Iterator[tuple[str, Record]]:
    """(name, record) pairs for the shards; `add` hears of every clip."""
    for item in prepared:
        add(item)
        record, entry = item
        if isinstance(entry, Entry):
            yield entry.name, record  # type: ignore[misc]


def _nonempty(examples: Iterator[Any]) -> Iterator[Any] | None:
    first = next(examples, None)
    return None if first is None else itertools.chain([first], examples)


@runtime_checkable
class Write(Protocol):
    def __call__(
        self,
        folder: pathlib.Path,
        preparation: Preparation,
        refs: Mapping[str, Sequence[ClipRef]],
        add: Callable[[Prepared], None],
    ) -> None:
        """Writes the shards of all clips to a folder, and tells `add` of every clip, in their order.

        Nothing need be written where no training clip can be used.
        """
        ...


def write_here(
    folder: pathlib.Path,
    preparation: Preparation,
    refs: Mapping[str, Sequence[ClipRef]],
    add: Callable[[Prepared], None],
) -> None:
    """The `Write` of one machine: reads clips in `preparation.workers` processes, and writes shards in this one."""
    with _pool(preparation.workers) as pool:
        splits = {}
        for split, some in refs.items():
            examples = _nonempty(_examples(_mapped(preparation, some, pool), add))
            if examples is not None:
                splits[split] = examples
        if "train" in splits:
            write_shards(folder, splits, points=len(preparation.ids), shards=preparation.shards)


def prepare(
    preparation: Preparation, said: Callable[[int], None] = lambda clips: None, *, write: Write = write_here
) -> tuple[Survey, dict[str, Any]]:
    """Writes shards and manifest to `preparation.out`; returns the survey and the manifest.

    `said` hears the number of clips so far. Nothing is left behind where a UserError stops it.
    """
    import_tfds()
    data = preparation.data
    survey = Survey(SOURCES[data.source].vocabulary(data), preparation.ids)

    def add(item: Prepared) -> None:
        record, entry = item
        if isinstance(entry, Entry):
            survey.add(entry)
            said(survey.clips)
        else:
            survey.leave_out(record, entry)  # type: ignore[arg-type]

    refs = find_clips(preparation)
    with unfinished(preparation.out) as folder:
        write(folder, preparation, {split: refs[split] for split in SPLITS if split in refs}, add)
        if "train" not in survey.splits:
            why = "; ".join(f"{len(names)}: {reason}" for reason, names in survey.left_out.items()) or "there are none"
            raise UserError(f"{data.source} {data.root}: no clip of the train split can be used ({why}).")
        manifest = finish(preparation, survey, folder)
    return survey, manifest


def finish(preparation: Preparation, survey: Survey, folder: pathlib.Path) -> dict[str, Any]:
    """Writes the manifest. Raises UserError for what makes a score dishonest and is not allowed."""
    survey.refuse(disjoint=preparation.speaker_disjoint, allowed=preparation.allowed)
    data, source = preparation.data, SOURCES[preparation.data.source]
    manifest = {
        "jaxlip": jaxlip.__version__,
        "fingerprint": survey.fingerprint(),
        "source": {name: getattr(data, name) for name in ("source", "root", "splits", "landmarks")},
        "preset": data.preset,
        "ids": preparation.ids,
        "splits": {split: survey.splits[split].clips for split in SPLITS if split in survey.splits},
        "vocabulary": survey.vocabulary,
        "slots": source.slots(data),
        "speaker_disjoint": preparation.speaker_disjoint,
        "allowed": preparation.allowed,
        "counts": {"clips": survey.clips, "left_out": {why: len(names) for why, names in survey.left_out.items()}},
        "left_out": survey.left_out,
        "statistics": survey.statistics(),
        "checks": survey.checks(),
        "notes": source.notes(data),
    }
    write_manifest(folder, manifest)
    return manifest


@contextlib.contextmanager
def unfinished(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder beside `out` to work in, which takes its place at the end, and is gone where that is not reached.

    Raises UserError if `out` is something else than a folder that was prepared before.
    """
    if out.exists() and not (out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir()))):
        raise UserError(f"--out {out} exists and holds no prepared data; choose another folder.")
    folder = out.with_name(f"{out.name}.unfinished")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out {out}: {folder} cannot be made: {error.strerror}.") from None
    try:
        yield folder
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Any]:
    """Processes that prepare clips, None for one worker."""
    if workers == 1:
        yield None
        return
    with OrderedMap(_prepare_one, workers) as pool:
        yield pool
