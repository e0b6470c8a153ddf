"""Shards on disk: a TFDS data set of ArrayRecord files, with a JSON manifest beside it. Neither needs TensorFlow.

DIR/manifest.json                                   what it was made from, vocabulary, counts, fingerprint, checks
DIR/clips/1.0.0/clips-<split>.array_record-*        records, readable by `tfds.builder_from_directory` too
"""

import dataclasses
import functools
import json
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlip.data.records import Record
from jaxlip.errors import UserError

VERSION = "1.0.0"
FORMAT = 1
MANIFEST = "manifest.json"
NAME = "clips"


def import_tfds() -> Any:
    """TensorFlow Datasets. Raises UserError naming the extra where it is absent."""
    try:
        import tensorflow_datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("shards need tensorflow-datasets, which is absent; run `pip install 'jaxlip[data]'`.") from None
    return tensorflow_datasets


def features(points: int) -> Any:
    """The TFDS features of a `Record` of so many points."""
    of = import_tfds().features
    return of.FeaturesDict(
        {
            "name": of.Text(),
            "number": of.Scalar(np.int64),
            "speaker": of.Text(),
            # As a list of integers they would take several times as long to read.
            "landmarks": of.Tensor(shape=(None, points, 3), dtype=np.uint16, encoding="bytes"),
            "origin": of.Tensor(shape=(3,), dtype=np.float32),
            "step": of.Tensor(shape=(3,), dtype=np.float32),
            "detected": of.Tensor(shape=(None,), dtype=np.bool_),
            "fps": of.Scalar(np.float64),
            "size": of.Tensor(shape=(2,), dtype=np.int32),
            "words": of.Sequence(
                {"text": of.Text(), "start": of.Scalar(np.float64), "end": of.Scalar(np.float64)},
            ),
        }
    )


@functools.cache
def builder_class() -> Any:
    """The TFDS builder of prepared clips."""
    tfds = import_tfds()

    class Clips(tfds.core.GeneratorBasedBuilder):
        """Landmarks of video clips with what is said in them, written by `jaxlip prepare`."""

        VERSION = tfds.core.Version("1.0.0")
        name = NAME

        def __init__(self, *, points: int, splits: dict[str, Any], **kwargs: Any):
            self._points, self._splits = points, splits
            super().__init__(**kwargs)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(builder=self, features=features(self._points), description=self.__doc__)

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager
            return self._splits

        def _generate_examples(self) -> Any:
            raise NotImplementedError("examples come with the splits")

        # TFDS prints that it downloads, which nothing here does.
        def _log_download_bytes(self) -> None:
            pass

        def _log_download_done(self) -> None:
            pass

    return Clips


def write_shards(
    folder: pathlib.Path,
    splits: dict[str, Any],
    *,
    points: int,
    shards: int | None,
    **download: Any,
) -> None:
    """Writes each split's (name, record) pairs: an iterator, or a Beam transform.

    `shards` files a split, or as many as TFDS finds right for its size; `download` are further options of its
    DownloadConfig. Records lie in the order of a hash of their names, whatever order they come in.
    """
    tfds = import_tfds()
    tfds.disable_progress_bar()
    builder = builder_class()(points=points, splits=splits, data_dir=folder, file_format="array_record")
    config = tfds.download.DownloadConfig(
        num_shards=shards, compute_stats=tfds.download.ComputeStatsMode.SKIP, **download
    )
    with tempfile.TemporaryDirectory() as downloads:
        builder.download_and_prepare(download_dir=downloads, download_config=config)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Store:
    """Shards that can be read record by record, and their manifest."""

    folder: pathlib.Path
    manifest: dict[str, Any]
    records: dict[str, Sequence[Record]]
    """The records of every split, by number."""

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self.manifest["ids"])


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """The manifest of a prepared folder. Raises UserError if there is none, or it is another version's."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except OSError:
        raise UserError(f"{folder} holds no {MANIFEST}; `jaxlip prepare` makes such a folder.") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); prepare the data again.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} is not a manifest of format {FORMAT}; prepare the data again.")
    return manifest


def write_manifest(folder: pathlib.Path, manifest: dict[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, **manifest}, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


@functools.lru_cache(maxsize=4)
def _open(folder: pathlib.Path, changed: float) -> Store:
    del changed
    manifest = read_manifest(folder)
    tfds = import_tfds()
    shards = folder / NAME / VERSION
    try:
        builder = tfds.builder_from_directory(shards)
        files = [pathlib.Path(path) for part in builder.info.splits.values() for path in part.filepaths]
        records = {split: builder.as_data_source(split=split) for split in builder.info.splits}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the shards in {shards} cannot be read ({str(error).splitlines()[0][:150]}).") from None
    if missing := [path for path in files if not path.is_file()]:
        raise UserError(f"{len(missing)} of {len(files)} shards are gone: {missing[0]} is missing; prepare them again.")
    for split, part in manifest["statistics"]["splits"].items():
        found = len(records.get(split, ()))
        if found != part["clips"]:
            raise UserError(
                f"{shards} holds {found} {split} clips and its manifest names {part['clips']}; prepare the data again."
            )
    return Store(folder=folder, manifest=manifest, records=records)


def open_store(folder: pathlib.Path) -> Store:
    """Opens a folder that `jaxlip prepare` wrote. Raises UserError for one that it did not, or that is damaged."""
    path = folder / MANIFEST
    return _open(folder.absolute(), path.stat().st_mtime if path.is_file() else 0.0)
