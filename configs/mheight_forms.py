"""m-heights from invariant features of all information-set forms (made from exact minors, which is what it is for).

    python train.py --config configs/mheight_forms.py
    python evaluate.py --run mheight_forms --split test

Test log2-MSE .1333 [.1266, .1406], floor 1.2174, linear probe .199; validation .1278, training .1321; 4 minutes on one
busy core.
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
