"""How many numbers a model trains, module by module."""

import math
from typing import Any

from jaxlip.models.base import Model


def parameter_table(model: Model) -> dict[str, Any]:
    """{"trainable": N, "buffers": M, "modules": {name: {"trainable": n, "buffers": m}}}; nothing is allocated.

    A module is the path of a parameter without its last part; numbering inside lists is kept.
    """
    params, state = model.shapes()
    modules: dict[str, dict[str, int]] = {}
    for kind, arrays in (("trainable", params), ("buffers", state)):
        for name, array in arrays.items():
            module = modules.setdefault(name.rpartition(".")[0], {"trainable": 0, "buffers": 0})
            module[kind] += math.prod(array.shape)
    return {
        "trainable": sum(m["trainable"] for m in modules.values()),
        "buffers": sum(m["buffers"] for m in modules.values()),
        "modules": dict(sorted(modules.items())),
    }


def format_table(table: dict[str, Any]) -> str:
    rows = [("module", "trainable", "buffers")]
    rows += [(name, f"{m['trainable']:,}", f"{m['buffers']:,}") for name, m in table["modules"].items()]
    rows.append(("total", f"{table['trainable']:,}", f"{table['buffers']:,}"))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:{width}}  {trainable:>12}  {buffers:>9}" for name, trainable, buffers in rows)
