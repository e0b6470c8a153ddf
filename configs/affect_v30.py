"""Affect 3.0: the version with the most capacity; 5,115,906 parameters after a 768-wide encoder, with 115 known users.

python train.py --config configs/affect_v30.py
python evaluate.py --run affect_v30 --split test
"""

from jaxlip.config import Experiment, Optim, Target, Train
from jaxlip.data.texts import TextData
from jaxlip.models.affect_lstm import AffectLstm
from jaxlip.tasks.affect import Affect


def get_config() -> Experiment:
    return Experiment(
        name="affect_v30",
        data=TextData(),
        task=Affect(model=AffectLstm(user=64, hidden=256, dropout=0.2), valence_ccc=0.65, arousal_ccc=0.70),
        # Warmup over 15 % of the 20 epochs.
        optim=Optim(lr=8e-5, weight_decay=0.01, clip=0.5, warmup_epochs=3.0, final=0.0),
        train=Train(epochs=20, batch=10, patience=7, monitor="disagreement"),
        targets=(
            Target(metric="ccc", minimum=0.53, target=0.55, stretch=0.58),
            Target(metric="gap/disagreement", minimum=0.28, lower=True),
        ),
    )
