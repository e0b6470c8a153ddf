"""Affect 3.4: 3.0 with a user vector of 48, an LSTM of 224 and more dropout; 4,034,498 parameters.

python train.py --config configs/affect_v34.py
python evaluate.py --run affect_v34 --split test
"""

import dataclasses
import pathlib

from jaxlip.config import Experiment, load_config
from jaxlip.models.affect_lstm import AffectLstm


def get_config() -> Experiment:
    v30 = load_config(pathlib.Path(__file__).with_name("affect_v30.py"))
    return dataclasses.replace(
        v30,
        name="affect_v34",
        task=dataclasses.replace(v30.task, model=AffectLstm(user=48, hidden=224, dropout=0.3), arousal_ccc=0.70),
        optim=dataclasses.replace(v30.optim, weight_decay=0.015),
        train=dataclasses.replace(v30.train, patience=6),
    )
