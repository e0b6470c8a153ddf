"""A reader of signing of a tenth of the size, taught by a larger one beside the labels.

jaxlip teach --run sign_best --out SOFT
python train.py --config configs/sign_student.py --data.source phoenix --data.root PHOENIX --task.soft_targets SOFT
python evaluate.py --run sign_student --split test

Temperature 3 and weight 0.7 of the teacher as in the original. The student sees what the teacher saw.
"""

import dataclasses
import pathlib

from jaxlip.config import Experiment, load_config
from jaxlip.models.conv_ctc import ConvCtc
from jaxlip.tasks.distilled import Distilled


def get_config() -> Experiment:
    teacher = load_config(pathlib.Path(__file__).with_name("sign_best.py"))
    small = ConvCtc(width=48, blocks=2, kernel=9, hidden=32, dropout=0.1, input_dropout=0.1)
    student = dataclasses.replace(teacher.task, model=small)  # type: ignore[type-var]
    task = Distilled(task=student, soft_targets="SOFT", temperature=3.0, alpha=0.7)
    return dataclasses.replace(teacher, name="sign_student", task=task)
