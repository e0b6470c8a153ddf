"""m-heights from raw entries of P, by learned minors on the lattice of sets of columns; n = 9, nine groups.

    python train.py --config configs/mheight_best.py
    python evaluate.py --run mheight_best --split test

With `--train.epochs 100`, stopped after 24 epochs (307,200 matrices of each k, no annealing): test log2-MSE .4308
[.4015, .4614], floor 1.2174; validation .4182, training .3982. The 60 epochs have not been run. With glibc's
MALLOC_MMAP_THRESHOLD_=8000000000 a step takes half the time on CPU.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.codes import Codes
from jaxlip.models.learned_minors import LearnedMinors
from jaxlip.tasks.mheight import MHeight


def get_config() -> Experiment:
    return Experiment(
        name="mheight_best",
        data=Codes(),
        task=MHeight(model=LearnedMinors(width=32), huber=3.0),
        optim=Optim(lr=3e-3, warmup_epochs=1.0, average=0.998, plateau_patience=1000),
        train=Train(epochs=60, batch=64, steps_per_dispatch=50, patience=1000, eval_epochs=2),
    )
