"""Fingerspelling, letter by letter: `sign_best` on one hand. Words spliced from recorded letters, or single letters.

python train.py --config configs/spelling_best.py --data.root LETTERS
python evaluate.py --run spelling_best --split test
python train.py --config configs/spelling_best.py --data.root LETTERS --data.fingerspelling.isolated --name letters
python evaluate.py --run letters --split test
"""

import dataclasses
import pathlib

from jaxlip.config import Experiment, load_config
from jaxlip.data.signs import SignData


def get_config() -> Experiment:
    best = load_config(pathlib.Path(__file__).with_name("sign_best.py"))
    return dataclasses.replace(
        best,
        name="spelling_best",
        data=SignData(source="fingerspelling", features="one_hand", buckets=(24, 48, 80, 128)),
        task=dataclasses.replace(best.task, unit="characters"),  # type: ignore[type-var]
        train=dataclasses.replace(best.train, epochs=16),
    )
