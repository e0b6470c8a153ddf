"""What a program will need of a device's memory, known from its compilation and said before it runs."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax

from jaxlip.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes on each device: `held` by what is handed over and back (parameters, optimiser, data), `temporary` while
    the program runs; and the bytes that the device has, None where it does not say."""

    held: int
    temporary: int
    available: int | None
    device: str

    @property
    def total(self) -> int:
        return self.held + self.temporary

    def line(self) -> str:
        has = "" if self.available is None else f"; {self.device} has {self.available / GIB:.1f} GiB"
        parts = f"{self.held / GIB:.2f} parameters, optimiser and data, {self.temporary / GIB:.2f} activations"
        return f"memory: will need {self.total / GIB:.2f} GiB ({parts}){has}"

    def check(self) -> None:
        """Raises UserError where it does not fit."""
        if self.available is not None and self.total > self.available:
            raise DoesNotFit(f"{self.line()}: {ADVICE}")


ADVICE = (
    "it does not fit. Fewer examples at a time, --train.accumulate 2 or a smaller --train.batch, or --train.precision "
    "auto, lessen the activations; --data.resident_gib 0 streams the data instead of holding them."
)


class DoesNotFit(UserError):
    """The device has not the memory that a program needs."""


class Measured:
    """A jitted function that is compiled when it first meets arguments of some shapes, which says what it will need."""

    def __init__(self, function: Any, say: Callable[[str], None] = lambda line: None):
        """`say` is given a line wherever more is needed than before."""
        self._function, self.say = function, say
        self._compiled: dict[Any, Any] = {}
        self._most = 0

    def __len__(self) -> int:
        """How many programs there are: one for all arguments of the same shapes."""
        return len(self._compiled)

    def __call__(self, *arguments: Any) -> Any:
        """Raises DoesNotFit, on CPU and wherever sizes are known before the program runs, else when it does."""
        leaves = jax.tree.leaves(arguments)
        shapes = tuple((leaf.shape, leaf.dtype, getattr(leaf, "sharding", None)) for leaf in leaves)
        if shapes not in self._compiled:
            compiled = self._function.lower(*arguments).compile()
            if need := need_of(compiled):
                need.check()
                if need.total > self._most:
                    self._most = need.total
                    self.say(need.line())
            self._compiled[shapes] = compiled
        try:
            return self._compiled[shapes](*arguments)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise DoesNotFit(f"the device has run out of memory: {ADVICE}") from None


def need_of(compiled: Any) -> Need | None:
    """What a compiled program needs; None where its compiler does not say."""
    sizes = compiled.memory_analysis()
    if sizes is None:
        return None
    held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    device = jax.devices()[0]
    return Need(held, sizes.temp_size_in_bytes, available(device), device.device_kind)


def available(device: Any) -> int | None:
    """Bytes of memory that JAX may use on a device; on CPU those of the machine."""
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return (device.memory_stats() or {}).get("bytes_limit")
