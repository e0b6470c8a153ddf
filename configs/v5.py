"""V5: graph attention over the extended features, 5,876,325 parameters at 100 words.

    python train.py --config configs/v5.py
    python evaluate.py --run v5 --split test

On GRID s1 in two epochs of windows of 15 frames (benchmarks/grid_words.py --short --rows v5): test accuracy .642
[.606, .673], floor .044 (validation .641); an hour on one core.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.models.pool import AttentionPool
from jaxlip.models.spatial import GraphAttention
from jaxlip.models.temporal import Lstm
from jaxlip.models.word_reader import WordReader
from jaxlip.tasks.word import Word


def get_config() -> Experiment:
    return Experiment(
        name="v5",
        data=FaceData(features="extended56"),
        task=Word(
            model=WordReader(
                spatial=GraphAttention(hidden=256, heads=4, layers=3, dropout=0.5),
                temporal=Lstm(hidden=256, layers=2, dropout=0.5, norm=False),
                pool=AttentionPool(hidden=256),
                hidden=256,
                dropout=0.5,
            ),
            label_smoothing=0.1,
        ),
        optim=Optim(lr=1e-3, weight_decay=2e-4),
        train=Train(epochs=25, batch=32, patience=50),
    )
