"""What trained runs say of their training data, for students to learn from: soft targets in shards.

  jaxlip teach --run teacher --out soft/teacher
  jaxlip teach --run teacher --run teacher-seed1 --out soft/both

Of several runs, the mean of their probabilities. A student is trained on them by a config with Distilled, such as
configs/sign_student.py.
"""

import argparse
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from jaxlip.cli.options import Parser
from jaxlip.data.soft_targets import write_shards
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.report.saved import Saved, load_saved
from jaxlip.tasks.base import Teaches
from jaxlip.tasks.together import log_mean


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip teach", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", required=True, metavar="RUN", help="a teacher; may be given again")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR", help="folder for the shards")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    options = parser.parse_args(arguments)
    teachers = [load_saved(RunFolder.find(name, options.runs)) for name in options.run]
    for teacher in teachers:
        if not isinstance(teacher.task, Teaches):
            raise UserError(f"run {teacher.folder.path} ({type(teacher.task).__name__}) has no classes to teach.")
        if teacher.meta.fingerprint != teachers[0].meta.fingerprint:
            raise UserError(f"runs {options.run[0]} and {teacher.folder.path.name} were trained on different data.")
    count, stride = teach(teachers, options.out)
    print(f"wrote {options.out}: {count} examples, {f'a step every {stride} frames' if stride > 1 else 'every frame'}")


def teach(teachers: list[Saved], out: pathlib.Path) -> tuple[int, int]:
    """Writes the shards; returns how many examples there are, and frames a step (0: one answer an example)."""
    corpus = teachers[0].corpus()
    split = corpus.splits["train"]
    answers = [teacher.predict(corpus, "train")[0] for teacher in teachers]
    first, _ = teachers[0].task.soft_targets(answers[0][0], split.buckets[0])
    stride = round(split.buckets[0].frames_BT.shape[1] / first.shape[1]) if first.ndim == 3 else 0

    def rows() -> Iterator[tuple[str, np.ndarray]]:
        for bucket, (batch, names) in enumerate(zip(split.buckets, split.names, strict=True)):
            said = [t.task.soft_targets(a[bucket], batch) for t, a in zip(teachers, answers, strict=True)]
            shapes = {logits.shape for logits, _ in said}
            if len(shapes) > 1:
                raise UserError(f"the teachers do not answer alike: {sorted(shapes)} (examples, steps, classes).")
            log_p, real = np.asarray(log_mean([logits for logits, _ in said])), np.asarray(said[0][1])
            for n, name in enumerate(names):
                yield name, log_p[n][real[n]] if stride else log_p[n : n + 1]

    manifest = {
        "teachers": [f"{teacher.folder.path} step {teacher.step}" for teacher in teachers],
        "fingerprint": corpus.fingerprint,
        "stride": stride,
    }
    return write_shards(out, rows(), manifest), stride
