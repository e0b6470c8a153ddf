"""Files, folders and globs -> videos, and where under the output folder each one's landmarks go."""

import collections
import dataclasses
import glob
import os
import pathlib
import stat
from collections.abc import Iterator, Sequence

from jaxlip.data.video import SUFFIXES
from jaxlip.errors import UserError


@dataclasses.dataclass(frozen=True)
class Source:
    """A video, and its path below what it was found in (its name alone for a file that was given itself)."""

    path: pathlib.Path
    below: pathlib.PurePath

    @property
    def name(self) -> str:
        """The name in reports: printable, whatever bytes the file system holds."""
        return os.fsencode(self.below).decode("utf-8", "replace")

    def target(self, out: pathlib.Path) -> pathlib.Path:
        return out / self.below.parent / f"{self.below.stem}.npz"


@dataclasses.dataclass(frozen=True)
class Found:
    """`sources` in order; `failures` (name, reason): unreadable, or with another's target; files ignored."""

    sources: list[Source]
    failures: list[tuple[str, str]]
    ignored: int


def find_videos(arguments: Sequence[str], out: pathlib.Path) -> Found:
    """`list_videos`, without those that would be extracted to the same file."""
    found = list_videos(arguments)
    clear, clashes = _without_clashes(found.sources, out)
    return dataclasses.replace(found, sources=clear, failures=found.failures + clashes)


def list_videos(arguments: Sequence[str]) -> Found:
    """Every video that the arguments name, once. Raises UserError for an argument that names none."""
    sources: dict[tuple[int, int], Source] = {}
    failures: list[tuple[str, str]] = []
    ignored = 0
    for argument in arguments:
        before, failed = len(sources), len(failures)
        repeated = False
        for path, base in _expand(argument):
            if path.is_dir():
                files = list(_walk(path, failures))
                ignored += sum(file.suffix.lower() not in SUFFIXES for file in files)
                files = [file for file in files if file.suffix.lower() in SUFFIXES]
            else:
                files = [path]
            for file in files:
                try:
                    status = file.stat()
                except OSError as error:
                    failures.append((str(file), f"cannot be read: {error.strerror}"))
                    continue
                if not stat.S_ISREG(status.st_mode):
                    # Opening a pipe would wait for ever.
                    failures.append((str(file), "is a pipe, socket or device, not a file"))
                    continue
                repeated |= (status.st_dev, status.st_ino) in sources
                sources.setdefault((status.st_dev, status.st_ino), Source(file, file.relative_to(base)))
        if len(sources) == before and len(failures) == failed and not repeated:
            raise UserError(f"no videos in {argument}; looked for {', '.join(sorted(SUFFIXES))}.")
    return Found(list(sources.values()), failures, ignored)


def _expand(argument: str) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """(path, base) of what an argument names; paths below `base` are kept. Raises UserError if there is nothing."""
    path = pathlib.Path(argument)
    if path.is_dir():
        yield path, path
    elif path.exists():
        yield path, path.parent
    elif glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))
        if not matches:
            raise UserError(f"nothing matches {argument}.")
        fixed = []
        for part in path.parts:
            if glob.has_magic(part):
                break
            fixed.append(part)
        base = pathlib.Path(*fixed)
        folders = [pathlib.Path(match) for match in matches if os.path.isdir(match)]
        files = [pathlib.Path(match) for match in matches if not os.path.isdir(match)]
        # `**` matches folders and what is in them; the files are enough where there are any.
        for match in files or folders:
            yield match, base
    else:
        raise UserError(f"{argument} does not exist.")


def _walk(folder: pathlib.Path, failures: list[tuple[str, str]]) -> Iterator[pathlib.Path]:
    """Files below a folder, through links but never twice through the same folder; hidden ones are left out."""

    def unreadable(error: OSError) -> None:
        failures.append((str(error.filename), f"folder cannot be read: {error.strerror}"))

    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        status = os.stat(root)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (pathlib.Path(root, name) for name in sorted(files) if not name.startswith("."))


def _without_clashes(sources: list[Source], out: pathlib.Path) -> tuple[list[Source], list[tuple[str, str]]]:
    """Sources with a target of their own, and why the others cannot be extracted."""
    rivals: dict[pathlib.Path, list[Source]] = collections.defaultdict(list)
    for source in sources:
        rivals[source.target(out)].append(source)
    clear = [group[0] for group in rivals.values() if len(group) == 1]
    clashes = []
    for target, group in rivals.items():
        if len(group) > 1:
            names = " and ".join(str(source.path) for source in group)
            reason = f"{names} would both be written to {target.relative_to(out)}; rename one"
            clashes += [(source.name, reason) for source in group]
    return clear, clashes
