"""What a run was trained with, kept in its config.json: versions, device, time."""

import datetime
import importlib.metadata
import os
import platform

import jax

import jaxlip


def environment() -> dict[str, str]:
    """Names nobody: no user, host or path."""
    devices = jax.devices()
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "numpy")}
    return {
        "jaxlip": jaxlip.__version__,
        "python": platform.python_version(),
        **versions,
        "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "system": platform.system(),
        "begun": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
