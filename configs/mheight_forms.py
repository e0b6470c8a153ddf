"""m-heights from invariant features (exact norms of the columns of all information-set forms), by a learned sweep.

    python train.py --config configs/mheight_forms.py
    python evaluate.py --run mheight_forms --split test

Test log2-MSE .0023 [.0021, .0026], floor 1.2174, linear probe .199; validation .0026, training .0024; 4 minutes on one
core.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.codes import Codes
from jaxlip.models.learned_sweep import LearnedSweep
from jaxlip.tasks.mheight import MHeight


def get_config() -> Experiment:
    return Experiment(
        name="mheight_forms",
        data=Codes(),
        task=MHeight(model=LearnedSweep(), huber=3.0),
        optim=Optim(lr=3e-3, warmup_epochs=1.0, average=0.998, plateau_patience=1000),
        train=Train(epochs=12, batch=64, steps_per_dispatch=50, patience=1000, eval_epochs=1),
    )
