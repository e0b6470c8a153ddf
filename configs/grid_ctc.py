"""Sentences of GRID by CTC: the V4 graph encoder in every frame, a bidirectional LSTM, characters for every frame.

python train.py --config configs/grid_ctc.py --data.root GRID --data.splits SPLITS_JSON
python evaluate.py --run grid_ctc --split test

Speaker s1, test word error rate: lexicon 12.1 % [9.6, 14.8], greedy 17.3 %, floor 82.3 %; 51 minutes on one core.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.face.augment import Augment
from jaxlip.models.graph_ctc import GraphCtc
from jaxlip.tasks.sentence import Sentence


def get_config() -> Experiment:
    return Experiment(
        name="grid_ctc",
        data=FaceData(source="grid", features="extended56"),
        task=Sentence(
            model=GraphCtc(hidden=192, graph_layers=2, dropout=0.2),
            augment=Augment(shift=0.02, scale=0.05, roll=2.0, noise=0.003, warp=0.2, move=2.0, mask=0.1, masks=2),
        ),
        optim=Optim(lr=1e-3, weight_decay=5e-4, average=0.99),
        train=Train(epochs=60, batch=16, patience=60, eval_epochs=2, monitor="token_error"),
    )
