"""m-heights without a curriculum, as before the original's run 3, of whose run 2 no settings are known: those of run 3.

    python train.py --config configs/mheight_run2.py

Not run yet.
"""

import dataclasses
import pathlib

from jaxlip.config import Curriculum, Experiment, load_config


def get_config() -> Experiment:
    run3 = load_config(pathlib.Path(__file__).with_name("mheight_run3.py"))
    task = dataclasses.replace(run3.task, previous=())  # type: ignore[type-var]
    return dataclasses.replace(run3, name="mheight_run2", task=task, curriculum=Curriculum())
