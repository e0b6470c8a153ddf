"""V2: the widest of the graph + LSTM word readers, 3,453,796 parameters at 100 words.

    python train.py --config configs/v2.py
    python evaluate.py --run v2 --split test

On GRID s1 in ten epochs of windows of 15 frames (benchmarks/grid_words.py --short --rows v2): test accuracy .835
[.806, .863], floor .044.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.tasks.word import Word


def get_config() -> Experiment:
    return Experiment(
        name="v2",
        data=FaceData(),
        task=Word(model=GraphLstm(hidden=256, graph_layers=3, dropout=0.5), label_smoothing=0.1),
        optim=Optim(lr=1e-3, weight_decay=2e-4),
        train=Train(epochs=25, batch=64, patience=50),
    )
