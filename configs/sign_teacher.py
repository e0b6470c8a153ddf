"""A larger `sign_best`, to teach smaller ones (`sign_student`, or another task inside Distilled).

python train.py --config configs/sign_teacher.py --data.source phoenix --data.root PHOENIX
jaxlip teach --run sign_teacher --out SOFT
"""

import dataclasses
import pathlib

from jaxlip.config import Experiment, load_config
from jaxlip.models.conv_ctc import ConvCtc


def get_config() -> Experiment:
    best = load_config(pathlib.Path(__file__).with_name("sign_best.py"))
    model = ConvCtc(width=320, blocks=6, kernel=11, hidden=256, lstm_layers=2, dropout=0.3, input_dropout=0.2)
    task = dataclasses.replace(best.task, model=model)  # type: ignore[type-var]
    return dataclasses.replace(best, name="sign_teacher", task=task)
