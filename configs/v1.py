"""V1: LSTM, attention and convolution side by side, fused by a gate; 33,212,519 parameters at 100 words.

    python train.py --config configs/v1.py
    python evaluate.py --run v1 --split test

The curves show what each branch has in the blend over all clips (`gate/...`; `gate_balance` keeps one from taking it
all), and how evenly they share a clip (`gate_entropy`; near 0 each clip is left to one of them).
On GRID s1 in three epochs of windows of 15 frames (benchmarks/grid_words.py --short --rows v1): test accuracy .771
[.748, .794], floor .044 (validation .747), parts of the gate .33, .30 and .37; an hour on one core.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.models.gated_branches import GatedBranches
from jaxlip.tasks.word import Word


def get_config() -> Experiment:
    return Experiment(
        name="v1",
        data=FaceData(),
        task=Word(model=GatedBranches(), label_smoothing=0.1, gate_balance=0.2),
        optim=Optim(lr=1e-3, weight_decay=2e-4, clip=1.0),
        train=Train(epochs=25, batch=64, patience=50),
    )
