"""m-heights from raw entries of P, by learned minors on the lattice of sets of columns; n = 9, nine groups.

MALLOC_MMAP_THRESHOLD_=8000000000 python train.py --config configs/mheight_best.py
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
