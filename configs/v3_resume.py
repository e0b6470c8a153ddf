"""V3 carried on from a V3 run with less regularisation and more patience: a warm start from its best checkpoint.

    python train.py --config configs/v3.py
    python train.py --config configs/v3_resume.py
    python evaluate.py --run v3_resume --split test

Give `--init_from RUN` where the V3 run has another name, and the same `--data.*` options as it had.
"""

import dataclasses
import pathlib

from jaxlip.config import Experiment, load_config


def get_config() -> Experiment:
    v3 = load_config(pathlib.Path(__file__).with_name("v3.py"))
    model = dataclasses.replace(v3.task.model, dropout=0.65)  # type: ignore[attr-defined]
    return dataclasses.replace(
        v3,
        name="v3_resume",
        init_from="v3",
        task=dataclasses.replace(v3.task, model=model, label_smoothing=0.15),
        optim=dataclasses.replace(v3.optim, weight_decay=7e-4),
        train=dataclasses.replace(v3.train, patience=70),
    )
