"""How this process asks for memory. Imports no JAX."""

import ctypes
import os
import platform

# <malloc.h> of glibc.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_large_blocks() -> bool:
    """Tells glibc to keep what is freed, in one arena, instead of giving large blocks back and faulting their pages in
    again at every step: XLA trains V4 1.2 to 1.4 times as fast on CPU (benchmarks/RESULTS.md). To be called before
    there are threads. False on other systems, and where the user has chosen (MALLOC_*, GLIBC_TUNABLES)."""
    chosen = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1), mallopt(M_ARENA_MAX, 1)])
