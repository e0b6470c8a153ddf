"""Compiled programs are kept between runs, so that what was compiled once starts at once. Imports no JAX.

They lie in ~/.cache/jaxlip/compiled, or where JAX_COMPILATION_CACHE_DIR says; JAX_ENABLE_COMPILATION_CACHE=false turns
the cache off.
"""

import hashlib
import os
import pathlib
import platform
import sys

LARGEST = 2 * 2**30
"""Bytes above which the oldest programs are thrown away."""
WORTH_KEEPING = 0.5
"""Seconds of compilation from which a program is kept."""


def keep_compiled() -> pathlib.Path | None:
    """Tells JAX, and the processes that this one starts, where to keep programs; None where they are not kept, or where
    the user has said it."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "") in (
        "0",
        "false",
    ):
        return None
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = caches / "jaxlip/compiled" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder)
    except OSError:
        # A home that cannot be written to costs time, not the run.
        return None
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": WORTH_KEEPING,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    for name, value in settings.items():
        os.environ.setdefault(name.upper(), str(value))
    if jax := sys.modules.get("jax"):
        for name, value in settings.items():
            jax.config.update(name, value)
    return folder


def _processor() -> str:
    """A name of this kind of processor: programs compiled for another may not run here, homes are shared."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        known = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        known = ""
    return hashlib.sha256(f"{platform.machine()} {platform.processor()} {known}".encode()).hexdigest()[:12]


def _tidy(folder: pathlib.Path) -> None:
    """Throws the oldest programs away where there are too many."""
    files = [(file.stat().st_mtime, file.stat().st_size, file) for file in folder.iterdir() if file.is_file()]
    excess = sum(size for _, size, _ in files) - LARGEST
    for _, size, file in sorted(files):
        if excess <= 0:
            break
        file.unlink(missing_ok=True)
        excess -= size
