"""The MobileNetV3 student on holistic landmarks, glosses by CTC: the original's model and training, its defects mended.

python train.py --config configs/sign_ctc.py --data.source phoenix --data.root PHOENIX
python evaluate.py --run sign_ctc --split test

Four batches of four clips a step, as there. `--data.source fingerspelling --data.root LETTERS --task.unit characters`
reads fingerspelling.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.signs import SignData
from jaxlip.models.mobilenet1d import MobileNet1d
from jaxlip.tasks.sign import Sign


def get_config() -> Experiment:
    return Experiment(
        name="sign_ctc",
        data=SignData(),
        task=Sign(model=MobileNet1d(dropout=0.3)),
        optim=Optim(lr=3e-4, weight_decay=1e-4, clip=1.0, warmup_epochs=5.0),
        train=Train(epochs=100, batch=16, accumulate=4, monitor="token_error"),
    )
