"""m-heights from raw entries of P, by learned minors on the lattice of sets of columns; n = 9, nine groups.

    python train.py --config configs/mheight_best.py
    python evaluate.py --run mheight_best --split test

Test log2-MSE .3218 [.2927, .3534], floor 1.2174; validation .3055, training .2926 (matrices of the first epoch); 39
minutes on one core, with glibc's MALLOC_MMAP_THRESHOLD_=8000000000, by which a step takes half the time on CPU. That
run had four arrays more, which no answer depended on; without them weights begin from other random numbers.
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
