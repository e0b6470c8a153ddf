"""Affect 3.2: no user vector, one LSTM layer, mixup, label smoothing and strong dropout; the version that failed.

    python train.py --config configs/affect_v32.py
    python evaluate.py --run affect_v32 --split test

Weight decay, patience, and the strengths of mixup and smoothing are not known; these are guesses.
"""

import dataclasses
import pathlib

from jaxlip.config import Experiment, load_config
from jaxlip.models.affect_lstm import AffectLstm


def get_config() -> Experiment:
    v30 = load_config(pathlib.Path(__file__).with_name("affect_v30.py"))
    return dataclasses.replace(
        v30,
        name="affect_v32",
        task=dataclasses.replace(
            v30.task,
            model=AffectLstm(user=0, hidden=128, lstm_layers=1, dropout=0.4),
            valence_ccc=0.60,
            arousal_ccc=0.85,
            mixup=0.2,
            label_smoothing=0.1,
        ),
        optim=dataclasses.replace(v30.optim, weight_decay=0.015),
        # Four parts of 10 a step: each part has a concordance of its own.
        train=dataclasses.replace(v30.train, batch=40, accumulate=4, patience=5),
    )
