"""A saved run brought back to life from its checkpoint alone: model, parameters, spec; its data read again if asked."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax

from jaxlip.config import differences, override
from jaxlip.data.batches import Corpus
from jaxlip.data.folds import read_corpus
from jaxlip.engine.checkpoint import Checkpoints, Meta
from jaxlip.engine.curriculum import count_groups
from jaxlip.engine.loop import run_split
from jaxlip.engine.mesh import Placement, data_mesh
from jaxlip.engine.optim import optimizer
from jaxlip.engine.precision import may_scale
from jaxlip.engine.run import RunFolder
from jaxlip.engine.state import TrainState, initial_state
from jaxlip.engine.step import Program
from jaxlip.errors import UserError
from jaxlip.face.presets import mirror_map
from jaxlip.face.views import MIRROR, check_view, seen_as
from jaxlip.models.base import Model
from jaxlip.tasks.base import Helped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint in memory."""

    folder: RunFolder
    step: int
    meta: Meta
    model: Model
    program: Program
    state: TrainState
    jitted: Any
    """The evaluation of a batch, traced once for all splits."""

    @property
    def task(self) -> Any:
        return self.meta.experiment.task

    def read_with(self, arguments: Sequence[str], prog: str) -> "Saved":
        """The same run with other options of its decoding (`--task.decode.*`), which training does not depend on.

        Raises UserError for any other option.
        """
        asked = override(self.meta.experiment, arguments, prog=prog)
        changed = [line for line in differences(self.meta.experiment, asked) if not line.startswith("task.decode.")]
        if changed:
            raise UserError(f"only --task.decode.* may change after training, not {'; '.join(changed)}.")
        program = dataclasses.replace(self.program, task=asked.task)
        meta = dataclasses.replace(self.meta, experiment=asked)
        return dataclasses.replace(self, meta=meta, program=program, jitted=jax.jit(program.evaluate))

    def seen_as(self, view: str) -> "Saved":
        """The same run asked about another view of the clips (`jaxlip.face.views`). Raises UserError where there is
        none."""
        check_view(view)
        spec: Any = self.meta.spec
        if not hasattr(spec, "topology"):
            raise UserError(f"views are of faces; {self.folder.path} reads none.")
        if view == MIRROR:
            mirror_map(spec.input.ids, f"preset {spec.topology.preset}")
        look = functools.partial(seen_as, view=view, ids=spec.input.ids, preset=spec.topology.preset)
        program = dataclasses.replace(self.program, view=look)
        return dataclasses.replace(self, program=program, jitted=jax.jit(program.evaluate))

    def corpus(self, **moved: str) -> Corpus:
        """The data of the run, read again; `moved` replaces fields of its data config, such as a root that moved.

        Raises UserError if they are not what it was trained on.
        """
        experiment = self.meta.experiment
        corpus = read_corpus(experiment, dataclasses.replace(experiment.data, **moved))
        self.check_data(corpus)
        return corpus

    def check_data(self, corpus: Corpus) -> None:
        """Raises UserError if these are not the data that the run was trained on."""
        if corpus.fingerprint != self.meta.fingerprint:
            raise UserError(
                f"the data of {self.folder.path} have changed: fingerprint {self.meta.fingerprint} saved, "
                f"{corpus.fingerprint} found (data.source={getattr(self.meta.experiment.data, 'source', '?')}, "
                f"data.root={getattr(self.meta.experiment.data, 'root', None)})."
            )

    def predict(self, corpus: Corpus, split: str) -> tuple[list[Any], dict[str, float]]:
        """Outputs (a pytree a bucket) and metrics on a split. Raises UserError if the data have no such split."""
        if split not in corpus.splits:
            raise UserError(f"there is no split {split!r} in these data; there are {', '.join(corpus.splits)}.")
        batch = self.meta.experiment.train.batch
        mesh = data_mesh()
        with jax.set_mesh(mesh):
            feed = corpus.splits[split].feed(Placement(mesh))
            return run_split(self.jitted, self.state, corpus.splits[split], feed, batch)


def load_saved(folder: RunFolder, which: str = "best", like: Saved | None = None) -> Saved:
    """The best or the latest checkpoint of a run; `like` is one of the same model, compiled for both."""
    checkpoints = Checkpoints(folder.checkpoints, read_only=True)
    step = checkpoints.best if which == "best" else checkpoints.latest
    assert step is not None
    meta = checkpoints.meta(step)
    if isinstance(meta.experiment.task, Helped):
        meta = dataclasses.replace(
            meta, experiment=dataclasses.replace(meta.experiment, task=meta.experiment.task.plain)
        )
    model = meta.experiment.task.build(meta.spec)  # type: ignore[attr-defined]
    tx = optimizer(meta.experiment.optim)

    averaged = meta.experiment.optim.averaged
    groups = count_groups(meta.experiment, meta.spec)
    scaled = may_scale(meta.experiment.train.precision)
    build = functools.partial(initial_state, model, tx, averaged, groups=groups, scaled=scaled)
    abstract = jax.eval_shape(build, jax.random.key(0))
    state = checkpoints.state(step, abstract)
    checkpoints.close()
    program = Program(
        task=meta.experiment.task,  # type: ignore[arg-type]
        model=model,
        spec=meta.spec,
        tx=tx,
        schedule=lambda step: step * 0.0,
    )
    jitted = like.jitted if like else jax.jit(program.evaluate)
    return Saved(folder=folder, step=step, meta=meta, model=model, program=program, state=state, jitted=jitted)
