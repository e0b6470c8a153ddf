"""V3: the narrow, strongly regularised word reader, 858,212 parameters at 100 words.

    python train.py --config configs/v3.py
    python evaluate.py --run v3 --split test

On GRID s1 with `--task.model.pool speech --train.epochs 45`: test accuracy .8146 [.7874, .8417], floor .0437
(commands in README.md).
Not scored on the built-in corpus.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.tasks.word import Word


def get_config() -> Experiment:
    return Experiment(
        name="v3",
        data=FaceData(),
        task=Word(model=GraphLstm(hidden=128, graph_layers=2, dropout=0.7), label_smoothing=0.2),
        optim=Optim(lr=5e-4, weight_decay=1e-3),
        train=Train(epochs=25, batch=32, patience=30),
    )
