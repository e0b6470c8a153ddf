"""Fingerspelling by a student of a fifth of the size, taught by `spelling_best` beside the letters.

jaxlip teach --run spelling_best --out SOFT
python train.py --config configs/spelling_student.py --data.root LETTERS --task.soft_targets SOFT
python evaluate.py --run spelling_student --split test
"""

import dataclasses
import pathlib

from jaxlip.config import Experiment, load_config


def get_config() -> Experiment:
    here = pathlib.Path(__file__)
    teacher = load_config(here.with_name("spelling_best.py"))
    student = load_config(here.with_name("sign_student.py"))
    plain = dataclasses.replace(teacher.task, model=student.task.task.model)  # type: ignore[attr-defined]
    task = dataclasses.replace(student.task, task=plain)  # type: ignore[type-var]
    return dataclasses.replace(teacher, name="spelling_student", task=task)
