"""Our reader of signing: hands in their palms' axes, large kernels over time, one LSTM layer; glosses or letters by
CTC.

python train.py --config configs/sign_best.py --data.source phoenix --data.root PHOENIX
python evaluate.py --run sign_best --split test
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.signs import SignData
from jaxlip.holistic.augment import SignAugment
from jaxlip.models.conv_ctc import ConvCtc
from jaxlip.tasks.sign import Sign


def get_config() -> Experiment:
    return Experiment(
        name="sign_best",
        data=SignData(features="two_hands"),
        task=Sign(
            model=ConvCtc(width=128, blocks=4, kernel=9, hidden=128, dropout=0.25, input_dropout=0.2),
            augment=SignAugment(tilt=12.0, roll=9.0, stretch=0.1, bones=0.08, noise=0.003, warp=0.2, mask=0.1, masks=2),
        ),
        optim=Optim(lr=2e-3, weight_decay=1e-2, average=0.99),
        train=Train(epochs=40, batch=16, eval_epochs=2, monitor="token_error"),
    )
