"""First of three phases: a V3-like reader of width 128, which `grow_160.py` and `grow_192.py` widen.

    jaxlip grow --configs configs/grow_128.py configs/grow_160.py configs/grow_192.py --scratch
    python evaluate.py --run grow_192 --split test

Batch norms only: a layer norm over widened units would not keep the outputs (`jaxlip.engine.growth`).
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.models.spatial import Gcn
from jaxlip.models.temporal import Lstm
from jaxlip.models.word_reader import WordReader
from jaxlip.tasks.word import Word


def reader(width: int, dropout: float) -> WordReader:
    return WordReader(
        spatial=Gcn(hidden=width, layers=2, dropout=dropout),
        temporal=Lstm(hidden=width, layers=2, dropout=dropout, norm=False),
        hidden=width,
        dropout=dropout,
    )


def get_config() -> Experiment:
    return Experiment(
        name="grow_128",
        data=FaceData(),
        task=Word(model=reader(128, 0.4), label_smoothing=0.15),
        optim=Optim(lr=1e-3, weight_decay=7e-4),
        train=Train(epochs=10, batch=32, patience=50),
    )
