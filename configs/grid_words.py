"""The V4 shape tuned for words cut out of running GRID sentences.

    python train.py --config configs/grid_words.py --data.root GRID --data.splits SPLITS_JSON
    python evaluate.py --run grid_words --split test

Test accuracy .9125 [.8917, .9354] on GRID s1 (480 words of 80 clips, 51 classes, floor .0437); validation .8797.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.face.augment import Augment
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.tasks.word import Word


def get_config() -> Experiment:
    return Experiment(
        name="grid_words",
        data=FaceData(source="grid"),
        task=Word(
            # A GRID word lasts 6 of the 29 frames (median): the clip's vector is the mean over the word alone.
            model=GraphLstm(hidden=192, graph_layers=2, dropout=0.3, pool="speech"),
            label_smoothing=0.1,
            augment=Augment(shift=0.02, scale=0.05, roll=2.0, noise=0.003, warp=0.15, move=1.5, mask=0.15),
        ),
        optim=Optim(lr=1e-3, weight_decay=5e-4),
        train=Train(epochs=15, batch=32, patience=50, min_delta=5e-4),
    )
