"""Devices: one axis, "data". Parameters and resident data are replicated, batches are split over it."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlip.errors import UserError


def data_mesh(batch: int) -> Mesh:
    """All devices in one axis. Raises UserError if the batch cannot be split evenly."""
    devices = jax.devices()
    if batch % len(devices):
        raise UserError(f"train.batch={batch} is not a multiple of the {len(devices)} devices; choose one that is.")
    return Mesh(np.array(devices), ("data",))


def replicate(tree: Any, mesh: Mesh) -> Any:
    return jax.device_put(tree, NamedSharding(mesh, P()))


def shard_examples(batch: Any) -> Any:
    """Splits the leading axis over the "data" axis of the mesh in use; inside jit."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return batch
    return jax.lax.with_sharding_constraint(batch, P("data"))
