"""Devices: one axis over those of all hosts. Of one model, parameters and resident data are replicated and batches are
split ("data"); of many models, each device may have some to itself ("models").

A batch that the devices do not divide is split all the same: XLA fills the last devices up and masks what it filled, so
that no result and no random draw knows how many devices there are.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def data_mesh() -> Mesh:
    """All devices in one axis, host after host."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), ("data",))


def models_mesh(mesh: Mesh) -> Mesh:
    """The same devices, for models that are dealt out to them."""
    return Mesh(mesh.devices, ("models",))


def over_devices(function: Callable[..., Any], mesh: Mesh, in_axes: Sequence[int | None]) -> Callable[..., Any]:
    """A function of stacked models (arguments of axis 0) and of what they share (None), on each device for its own."""
    specs = tuple(P() if axis is None else P("models") for axis in in_axes)
    # Models do not talk to each other: what a device computes is right whatever the others do.
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P("models"), check_vma=False)


def stack_models(tree: Any, mesh: Mesh) -> Any:
    """Stacked models on the devices: dealt out over "models", or copied to all where the axis is "data"."""
    return jax.device_put(tree, NamedSharding(mesh, P(*(name for name in mesh.axis_names if name == "models"))))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """The same arrays on all devices; every host gives its own copy."""
    sharding = NamedSharding(mesh, P())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _from_every_host(leaf, sharding), tree)


def _from_every_host(leaf: Any, sharding: NamedSharding) -> jax.Array:
    # device_put would compare the hosts' values, array by array.
    if isinstance(leaf, jax.Array):
        if leaf.sharding == sharding:
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = _from_every_host(jax.random.key_data(leaf), sharding)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    array = np.asarray(leaf)
    array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def replicated_outputs(mesh: Mesh) -> dict[str, Any]:
    """What `jax.jit` is told of results that every host is to read."""
    return {} if jax.process_count() == 1 else {"out_shardings": NamedSharding(mesh, P())}


@dataclasses.dataclass(frozen=True)
class Placement:
    """Puts a host's arrays on the devices of a mesh: copies of them on all, or of batches to each device its part.

    One host has read all of a batch anyway and gives every device a copy, so that a streamed run is the resident one
    bit by bit.
    """

    mesh: Mesh

    def __call__(self, tree: Any) -> Any:
        return replicate(tree, self.mesh)

    def columns(self, batch: int) -> slice | None:
        """Which examples of every batch are for this host's devices; None where a batch is not dealt out."""
        devices = list(self.mesh.devices.flat)
        if jax.process_count() == 1 or batch % len(devices):
            return None
        own = [place for place, device in enumerate(devices) if device.process_index == jax.process_index()]
        each = batch // len(devices)
        return slice(own[0] * each, (own[-1] + 1) * each)

    def deal(self, tree: Any, batch: int) -> Any:
        """Arrays [N, B, ...] split over B, from this host's columns of them."""
        sharding = NamedSharding(self.mesh, P(None, "data"))

        def whole(array: np.ndarray) -> jax.Array:
            shape = (len(array), batch, *array.shape[2:])
            return jax.make_array_from_process_local_data(sharding, array, shape)

        return jax.tree.map(whole, tree)


def shard_examples(batch: Any) -> Any:
    """Splits the leading axis over the "data" axis of the mesh in use, if it has one; inside jit."""
    mesh = jax.sharding.get_abstract_mesh()
    if "data" not in mesh.axis_names or mesh.size == 1:
        return batch
    return jax.lax.with_sharding_constraint(batch, P("data"))
