"""m-heights from invariant features of all information-set forms (made from exact minors, which is what it is for).

    python train.py --config configs/mheight_forms.py
    python evaluate.py --run mheight_forms --split test

Not run to its end yet: after `--data.train 6400 --train.epochs 4`, validation log2-MSE is .2169.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.codes import Codes
from jaxlip.models.form_heights import FormHeights
from jaxlip.tasks.mheight import MHeight


def get_config() -> Experiment:
    return Experiment(
        name="mheight_forms",
        data=Codes(),
        task=MHeight(model=FormHeights()),
        optim=Optim(lr=1e-3, warmup_epochs=1.0, average=0.998, plateau_patience=1000),
        train=Train(epochs=60, batch=64, steps_per_dispatch=50, patience=1000, eval_epochs=2),
    )
