"""What a teacher says of every training example, in shards on disk, and as a part of the target.

A folder with `manifest.json` and `00000.npz`, `00001.npz`, ...: `names` [N], `lengths` [N] and `log_p` f16 [sum of
lengths, K], the log-probabilities of the real steps of one example after the other. The manifest's `stride` is how many
frames a step is of; 0 for one answer an example.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.data.batches import Split
from jaxlip.errors import UserError
from jaxlip.face.augment import Timed, resample

SHARD = 256
"""Examples a file."""
LEAST = -30.0
"""Log-probabilities below this are written as this; e^-30 teaches nobody anything."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Taught:
    """A target with a teacher's log-probabilities [B, T, K] (f16; 0 in padding), or [B, K] of a whole example."""

    target: Any
    log_p: Any

    def retimed(self, time_BT: Any) -> "Taught":
        """The target where frame t shows what was at frame `time_BT[:, t]`. Raises UserError for fewer steps than
        frames."""
        target = self.target.retimed(time_BT) if isinstance(self.target, Timed) else self.target
        if self.log_p.ndim == 2:
            return dataclasses.replace(self, target=target)
        if self.log_p.shape[1] != time_BT.shape[1]:
            raise UserError(
                f"the teacher has {self.log_p.shape[1]} steps for {time_BT.shape[1]} frames, which cannot follow a "
                "warped time: set warp, move and mask of task.task.augment to 0."
            )
        real_BT = jnp.ones(time_BT.shape, bool)
        log_p_BTK = resample(self.log_p.astype(jnp.float32)[..., None], real_BT, time_BT)[..., 0]
        return Taught(target=target, log_p=log_p_BTK)


def write_shards(folder: pathlib.Path, rows: Iterable[tuple[str, np.ndarray]], manifest: dict[str, Any]) -> int:
    """Writes the log-probabilities [T, K] of every example by its name; returns how many there are.

    The manifest comes last: a folder without one is not whole.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder} cannot be made: {error.strerror}.") from None
    (folder / "manifest.json").unlink(missing_ok=True)
    held: list[tuple[str, np.ndarray]] = []
    count = 0

    def flush() -> None:
        if held:
            log_p_FK = np.concatenate([log_p_TK for _, log_p_TK in held])
            lengths_N = np.array([len(log_p_TK) for _, log_p_TK in held], np.int32)
            names_N = np.array([name for name, _ in held])
            np.savez(folder / f"{count // SHARD:05d}.npz", names=names_N, lengths=lengths_N, log_p=log_p_FK)
            held.clear()

    for name, log_p_TK in rows:
        held.append((name, np.maximum(log_p_TK, LEAST).astype(np.float16)))
        if len(held) == SHARD:
            flush()
            count += SHARD
    left = len(held)
    flush()
    (folder / "manifest.json").write_text(json.dumps(manifest | {"examples": count + left}, indent=1) + "\n")
    return count + left


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Raises UserError if the folder is not there or not whole."""
    try:
        return json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        raise UserError(
            f"{folder} holds no whole set of soft targets (manifest.json); `jaxlip teach --run TEACHER --out {folder}` "
            "makes one."
        ) from None


def read_shards(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Log-probabilities f16 [T, K] by the name of their example. Raises UserError."""
    manifest, log_p = read_manifest(folder), {}
    for path in sorted(folder.glob("[0-9]*.npz")):
        with np.load(path) as shard:
            ends_N = np.cumsum(shard["lengths"])
            parts = np.split(shard["log_p"], ends_N[:-1])
            log_p |= dict(zip(shard["names"].tolist(), parts, strict=True))
    if len(log_p) < manifest["examples"]:
        raise UserError(f"{folder} holds {len(log_p)} of {manifest['examples']} soft targets; make them again.")
    return log_p


def teach(split: Split, folder: pathlib.Path) -> Split:
    """The split with the teacher's words in its targets. Raises UserError for an example that it was not asked
    about."""
    stride, log_p = read_manifest(folder)["stride"], read_shards(folder)
    buckets = []
    for batch, names in zip(split.buckets, split.names, strict=True):
        missing = [name for name in names if name not in log_p]
        if missing:
            raise UserError(f"{folder} has no soft targets for {len(missing)} training examples, such as {missing[0]}.")
        steps = -(-batch.frames_BT.shape[1] // stride) if stride else 1
        padded_BTK = np.zeros((len(names), steps, log_p[names[0]].shape[1]), np.float16)
        for row_TK, name in zip(padded_BTK, names, strict=True):
            row_TK[: len(log_p[name])] = log_p[name]
        taught = Taught(target=batch.target, log_p=padded_BTK if stride else padded_BTK[:, 0])
        buckets.append(dataclasses.replace(batch, target=taught))
    return dataclasses.replace(split, buckets=tuple(buckets))
