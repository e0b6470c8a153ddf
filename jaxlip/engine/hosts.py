"""Several hosts that train one run: how they come together, agree, and part.

Each is a process of its own that reads the same config and the same data, and holds some of the devices; `runs/` is on
a file system that all of them see. The first host writes and speaks. Without `join` there is one host, and nothing here
asks anybody.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlip.errors import UserError

PATIENCE = 24 * 3600
"""Seconds that a host waits for another to reach the same point; one that dies is noticed by its heartbeat."""
_exchanges = itertools.count()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where the hosts find each other; without a coordinator, JAX finds all in the environment (SLURM, Open MPI, Cloud
    TPU, Kubernetes). A host that is silent for `heartbeat` seconds is gone."""

    coordinator: str | None = None
    count: int | None = None
    number: int | None = None
    heartbeat: int = 60
    gathering: int = 300
    """Seconds in which all hosts have to begin."""


def join(cluster: Cluster) -> None:
    """Waits for the other hosts. To be called before anything is computed. Raises UserError where they do not come."""
    # SIGTERM is for `Signals`, as on one host.
    jax.config.update("jax_enable_preemption_service", False)
    named: dict[str, Any] = {}
    if cluster.coordinator is not None:
        named = {
            "coordinator_address": cluster.coordinator,
            "num_processes": cluster.count,
            "process_id": cluster.number,
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(
            **named,
            initialization_timeout=cluster.gathering,
            heartbeat_timeout_seconds=cluster.heartbeat,
            shutdown_timeout_seconds=cluster.heartbeat,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if cluster.coordinator is None and "should be defined" in reason or "must be defined" in reason:
            raise UserError(
                "--distributed finds no cluster in the environment (SLURM, Open MPI, Cloud TPU, Kubernetes); "
                "name it with --coordinator, --hosts and --host-id."
            ) from None
        where = cluster.coordinator or "the cluster's coordinator"
        raise UserError(f"the hosts did not come together at {where} ({reason}).") from None
    # The first exchange between devices gives the other hosts half a minute: here all of them have just begun, while
    # later one may have to compile or read for longer.
    largest(0)


def count() -> int:
    # Asked of JAX only where hosts have joined: the question alone starts its devices.
    return jax.process_count() if jax.distributed.is_initialized() else 1


def number() -> int:
    return jax.process_index() if count() > 1 else 0


def first() -> bool:
    """Whether this is the host that writes and speaks."""
    return number() == 0


def together(function: Callable[[], Any]) -> Any:
    """What the function returns here, once it has returned on every host. Raises what it raised, and UserError where it
    failed on another host; the hosts then part, each with its line."""
    if count() == 1:
        return function()
    failure: UserError | None = None
    result = None
    try:
        result = function()
    except UserError as error:
        failure = error
    failures = _exchange(str(failure or ""))
    if any(failures):
        part()
        host = next(host for host, said in enumerate(failures) if said)
        raise failure or UserError(f"host {host}: {failures[host]}")
    return result


def same(what: str, value: str) -> None:
    """Raises UserError, on all hosts, if they do not agree."""
    if count() == 1:
        return
    values = _exchange(value)
    other = next((host for host, said in enumerate(values) if said != values[0]), None)
    if other is not None:
        part()
        raise UserError(f"the hosts differ in {what}: {values[0]} on host 0, {values[other]} on host {other}.")


def largest(value: int) -> int:
    """Of the hosts' values; at the same point of the program on all of them."""
    if count() == 1:
        return value
    from jax.experimental.multihost_utils import process_allgather

    return int(process_allgather(np.int32(value)).max())


def part() -> None:
    """Leaves the other hosts, which leave too, once all have come here."""
    if count() > 1:
        _exchange("")
        jax.distributed.shutdown()


def _exchange(said: str) -> list[str]:
    """What every host says. By the coordinator and not by the devices, whose waiting ends sooner."""
    from jax._src.distributed import global_state

    client: Any = global_state.client
    key = f"jaxlip/{next(_exchanges)}"
    client.key_value_set(f"{key}/{number()}", said or "-")
    heard = [client.blocking_key_value_get(f"{key}/{host}", PATIENCE * 1000) for host in range(count())]
    return ["" if word == "-" else word for word in heard]
