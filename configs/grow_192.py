"""Last of three phases: the reader of `grow_160.py` widened to 192, with outputs that are equal at first.

    jaxlip grow --configs configs/grow_128.py configs/grow_160.py configs/grow_192.py --scratch
    python evaluate.py --run grow_192 --split test

On GRID s1 (windows of 15 frames, 4 epochs a phase): test accuracy .840 after the last phase, .883 where it is trained
from nothing for as many steps (benchmarks/RESULTS.md).
"""

import dataclasses
import pathlib
import runpy

from jaxlip.config import Experiment


def get_config() -> Experiment:
    first = runpy.run_path(str(pathlib.Path(__file__).with_name("grow_128.py")))
    grow_128: Experiment = first["get_config"]()
    return dataclasses.replace(
        grow_128,
        name="grow_192",
        init_from="grow_160",
        grow=True,
        task=dataclasses.replace(grow_128.task, model=first["reader"](192, 0.4)),
        optim=dataclasses.replace(grow_128.optim, lr=7e-4, warmup_epochs=1.0),
    )
