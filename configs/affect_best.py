"""Our best affect model: means of all MiniLM layers (frozen), a linear map beside one hidden layer, trained for CCC.

python train.py --config configs/affect_best.py --data.source emobank --data.root EMOBANK
python evaluate.py --run affect_best --split test
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.texts import TextData
from jaxlip.models.affect_mlp import AffectMlp
from jaxlip.tasks.affect import Affect


def get_config() -> Experiment:
    return Experiment(
        name="affect_best",
        data=TextData(encoders=("minilm",), all_layers=True, window=1),
        # The model answers for anyone and for the user side by side: nobody has to be hidden.
        task=Affect(model=AffectMlp(), valence_ccc=0.9, arousal_ccc=0.9, user_dropout=0.0),
        optim=Optim(lr=3e-4, weight_decay=0.1, warmup_epochs=2.0),
        train=Train(epochs=20, batch=128, patience=6, monitor="disagreement"),
    )
