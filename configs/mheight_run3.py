"""m-heights as the original's run 3 has it: less dropout and decay than run 4, a later and gentler curriculum.

    python train.py --config configs/mheight_run3.py

Not run yet.
"""

import dataclasses
import pathlib

from jaxlip.config import Curriculum, Experiment, GroupWeight, Phase, load_config


def get_config() -> Experiment:
    run4 = load_config(pathlib.Path(__file__).with_name("mheight_run4.py"))
    model = dataclasses.replace(
        run4.task.model,  # type: ignore[attr-defined]
        p_dropout=0.2,
        expert_dropout=(0.3,) * 4,
        attention_dropout=0.1,
        trunk_dropout=0.35,
        residual_dropout=0.3,
        final_dropout=0.2,
        last_dropout=0.0,
    )
    restarts = dataclasses.replace(run4.optim.schedule[0], epochs=40.0)  # type: ignore[type-var]
    first, second, third = run4.curriculum.phases
    # min(3, 1 + 0.05 (epoch - 80)) for the three hard groups alike; the original gives no more than that.
    hard = GroupWeight(groups=("k4m5", "k5m4", "k6m3"), first=1.0, last=3.0, start=80.0, end=120.0)
    phases = (
        first,
        dataclasses.replace(second, start=41.0),
        Phase(start=81.0, weights=(*third.weights[:2], hard)),
    )
    return dataclasses.replace(
        run4,
        name="mheight_run3",
        task=dataclasses.replace(run4.task, model=model),
        optim=dataclasses.replace(run4.optim, weight_decay=5e-4, plateau_factor=1.0, schedule=(restarts,)),
        train=dataclasses.replace(run4.train, epochs=250, patience=50),
        curriculum=Curriculum(phases=phases),
        targets=(),
    )
