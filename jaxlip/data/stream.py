"""Splits whose landmarks stay on disk: batches are read ahead by grain while the device works on the one before."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxlip.data.batches import Deals, Dealt, Feed, Plan, Put, Split
from jaxlip.errors import UserError

THREADS = 2
CHUNK = 64
AHEAD = 2
"""Batches (whole dispatches, in training) that are ready or being read beside the one in use."""


@runtime_checkable
class ReadLandmarks(Protocol):
    def __call__(self, bucket: int, row: int, frames: int) -> np.ndarray:
        """Landmarks f32 [frames, V, 3] of an example."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StreamedSplit(Split):
    """A split whose batches hold masks and targets, and None for landmarks: `read` gets those."""

    read: ReadLandmarks

    def take(self, bucket: int, rows_N: np.ndarray) -> Any:
        light = super().take(bucket, rows_N)
        frames = light.frames_BT.shape[1]
        landmarks_BTVC = np.stack([self.read(bucket, int(row), frames) for row in rows_N])
        return dataclasses.replace(light, landmarks_BTVC=landmarks_BTVC)

    def arrays(self, bucket: int) -> Iterator[tuple[tuple[int, ...], np.dtype, Iterable[np.ndarray]]]:
        rows_N = np.arange(len(self.names[bucket]))
        like = self.take(bucket, rows_N[:1]).landmarks_BTVC
        parts = (self.take(bucket, rows_N[start : start + CHUNK]) for start in range(0, len(rows_N), CHUNK))
        # The landmarks are a batch's first array.
        yield (len(rows_N), *like.shape[1:]), like.dtype, (part.landmarks_BTVC for part in parts)
        yield from super().arrays(bucket)

    def feed(self, put: Put) -> Feed:
        return _Streaming(self, put)


@dataclasses.dataclass(frozen=True)
class _Streaming:
    """Feeds batches of just the rows that are asked for: of each batch, a host reads what its devices take."""

    split: StreamedSplit
    put: Put

    def batches(self, plan: Plan) -> Iterator[tuple[Any, Any]]:
        grain = _import_grain()
        options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
        reading = grain.MapDataset.source(_Rows(plan)).map(self._gather).to_iter_dataset(options)
        try:
            for arrays, rows in reading:
                if self._columns(rows) is None:
                    yield self.put((arrays, rows))
                else:
                    yield Dealt(self.put.deal(arrays, rows.shape[-1])), self.put(rows)  # type: ignore[attr-defined]
        except UserError as error:
            # Grain adds lines of its own to the message.
            raise UserError(str(error).partition("\n")[0]) from None

    def _gather(self, part: tuple[int, np.ndarray]) -> tuple[Any, np.ndarray]:
        """The rows as arrays of their own; a negative one is row 0 and no real example, as in a resident batch."""
        bucket, rows = part
        columns = self._columns(rows)
        own_KB = rows.reshape(-1, rows.shape[-1])[:, columns or slice(None)]
        flat_N = own_KB.reshape(-1)
        arrays = self.split.take(bucket, np.maximum(flat_N, 0))
        arrays = dataclasses.replace(arrays, examples_B=arrays.examples_B & (flat_N >= 0))
        if columns is not None:
            arrays = jax.tree.map(lambda array: array.reshape(*own_KB.shape, *array.shape[1:]), arrays)
        return arrays, np.arange(rows.size, dtype=np.int32).reshape(rows.shape)

    def _columns(self, rows: np.ndarray) -> slice | None:
        return self.put.columns(rows.shape[-1]) if isinstance(self.put, Deals) else None


class _Rows(Sequence):
    """A plan as a grain source."""

    def __init__(self, plan: Plan):
        self.plan = list(plan)

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index):
        return self.plan[index]


def _import_grain() -> Any:
    try:
        import grain  # pyright: ignore[reportMissingImports]
        from absl import flags
    except ImportError:
        raise UserError(
            "the landmarks do not fit in memory and streaming them needs grain, which is absent; run "
            "`pip install 'jaxlip[data]'`, or set --data.resident_gib higher."
        ) from None
    # Outside of absl.app nobody parses the flags that grain reads.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    return grain
