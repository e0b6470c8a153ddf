"""Second of three phases: the reader of `grow_128.py` widened to 160, with outputs that are equal at first.

    jaxlip grow --configs configs/grow_128.py configs/grow_160.py configs/grow_192.py --scratch
    python evaluate.py --run grow_160 --split test

On GRID s1 (windows of 15 frames, 4 epochs a phase): test accuracy .833 after this phase.
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
        name="grow_160",
        init_from="grow_128",
        grow=True,
        task=dataclasses.replace(grow_128.task, model=first["reader"](160, 0.4)),
        optim=dataclasses.replace(grow_128.optim, lr=7e-4, warmup_epochs=1.0),
    )
