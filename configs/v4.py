"""V4: the word reader between V2 and V3, 1,913,956 parameters at 100 words.

    python train.py --config configs/v4.py
    python evaluate.py --run v4 --split test

On the built-in corpus: test accuracy .1225 [.0899, .1550], floor .0100 (400 clips of 100 words; unseen speakers). It is
small and V4 is strongly regularised, so that this shows that everything works and little else.
On GRID s1: test accuracy .8438 [.8167, .8688], floor .0437 (commands in README.md).
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.tasks.word import Word


def get_config() -> Experiment:
    return Experiment(
        name="v4",
        data=FaceData(),
        task=Word(model=GraphLstm(hidden=192, graph_layers=2, dropout=0.6), label_smoothing=0.15),
        optim=Optim(lr=7.5e-4, weight_decay=5e-4),
        train=Train(epochs=25, batch=32, patience=50, min_delta=5e-4),
    )
