"""Shards that `jaxlip prepare` wrote: data.root is their folder."""

from collections.abc import Iterator
from typing import Any

from jaxlip.data.clips import Clip, ClipRef, DamagedClip
from jaxlip.data.records import decode
from jaxlip.data.sources.folders import root_folder
from jaxlip.data.store import Store, open_store
from jaxlip.errors import UserError
from jaxlip.face.features import stored_ids


def _store(data: Any) -> Store:
    """The opened shards. Raises UserError where they do not hold what the config asks for."""
    store = open_store(root_folder(data))
    held = set(store.ids)
    if not held >= set(stored_ids(data.preset)):
        raise UserError(
            f"{data.root} holds the points of preset {store.manifest['preset']}, not of data.preset={data.preset}; "
            "choose that preset, or prepare the data again with this one."
        )
    if data.normalize == "minmax":
        raise UserError("data.normalize=minmax needs the whole face, which shards do not hold; read the source itself.")
    return store


def vocabulary(data: Any) -> tuple[str, ...]:
    return tuple(open_store(root_folder(data)).manifest["vocabulary"])


def slots(data: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    manifest = open_store(root_folder(data)).manifest
    return tuple((name, tuple(words)) for name, words in manifest["slots"])


def origin(data: Any) -> str:
    """The source that the shards were made of."""
    return open_store(root_folder(data)).manifest["source"]["source"]


def notes(data: Any) -> list[str]:
    """What was found, and allowed, when the shards were made."""
    manifest = open_store(root_folder(data)).manifest
    allowed = [f"the shards allow {name}: scores may not be honest" for name in manifest["allowed"]]
    return manifest["notes"] + allowed


def find(data: Any) -> Iterator[ClipRef]:
    """Every record, by its number: names are in the records."""
    store = _store(data)
    for split, records in store.records.items():
        for number in range(len(records)):
            yield ClipRef(name=f"{split} record {number}", split=split, where=number)


def load(data: Any, ref: ClipRef) -> Clip:
    store = open_store(root_folder(data))
    try:
        record = store.records[ref.split][ref.where]
    except (OSError, ValueError, IndexError, RuntimeError) as error:
        raise DamagedClip(f"not a readable record ({str(error).splitlines()[0][:150]})") from None
    return decode(record, split=ref.split, ids=store.ids)
