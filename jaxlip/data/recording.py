"""Writing one raw-landmark `.npz` in constant memory, whole or not at all; reading what an earlier run wrote."""

import json
import os
import pathlib
import shutil
import tempfile
import zipfile
import zlib
from typing import Any, BinaryIO

import numpy as np

from jaxlip.data.clips import LANDMARKS


class Spool:
    """Rows of one array, kept in a file without a name until they are known to be complete."""

    def __init__(self, folder: pathlib.Path, row: tuple[int, ...]):
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # type: ignore[assignment]
        self.row = row
        self.rows = 0

    def append(self, value: np.ndarray | None) -> None:
        """Adds a row; None is a row of NaN."""
        row = np.full(self.row, np.nan) if value is None else value
        assert row.shape == self.row
        self._file.write(np.ascontiguousarray(row, "<f4").tobytes())
        self.rows += 1

    def chunk(self, start: int, stop: int) -> np.ndarray:
        """f32 [stop - start, ...]: rows from `start` to `stop`."""
        size = 4 * int(np.prod(self.row))
        self._file.flush()
        self._file.seek(start * size)
        content = self._file.read((stop - start) * size)
        self._file.seek(0, os.SEEK_END)
        return np.frombuffer(content, "<f4").reshape(-1, *self.row)

    def copy_to(self, target: Any) -> None:
        np.lib.format.write_array_header_1_0(
            target, {"descr": "<f4", "fortran_order": False, "shape": (self.rows, *self.row)}
        )
        self._file.seek(0)
        shutil.copyfileobj(self._file, target, 1 << 20)

    def close(self) -> None:
        self._file.close()


def landmark_spool(folder: pathlib.Path) -> Spool:
    return Spool(folder, (LANDMARKS, 3))


def part_of(path: pathlib.Path) -> pathlib.Path:
    """The name under which a file is written before it is whole; the same in every run, so that none stays behind."""
    return path.with_name(f".{path.name}.part")


def write_npz(path: pathlib.Path, arrays: dict[str, np.ndarray | Spool]) -> None:
    """Writes an uncompressed `.npz` under another name, and gives it its own once it is on the disk."""
    part = part_of(path)
    try:
        with zipfile.ZipFile(part, "w") as archive:
            for name, array in arrays.items():
                # A fixed date: the same video gives the same bytes.
                member = zipfile.ZipInfo(f"{name}.npy")
                with archive.open(member, "w", force_zip64=True) as target:
                    if isinstance(array, Spool):
                        array.copy_to(target)
                    else:
                        np.lib.format.write_array(target, np.asarray(array), allow_pickle=False)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_report(path: pathlib.Path, key: str) -> dict[str, Any] | None:
    """The report of a clip that is done: its file is whole as far as its directory tells, and has this content key."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            if "key" not in file.files or str(file["key"]) != key:
                return None
            return json.loads(str(file["report"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def read_thumbnail(path: pathlib.Path) -> bytes | None:
    """The PNG that lies in a clip's file."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            return file["thumbnail"].tobytes() or None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
