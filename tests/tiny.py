"""A word experiment that trains in seconds, for tests of everything around the model."""

import dataclasses

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.data.sources.visemes import Visemes
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.tasks.word import Word


def get_config() -> Experiment:
    return Experiment(
        name="tiny",
        data=FaceData(preset="lips40", visemes=Visemes(words=4, train=44, val=12, test=12)),
        task=Word(model=GraphLstm(hidden=8, dropout=0.2)),
        optim=Optim(lr=3e-3, warmup_epochs=1.0),
        train=Train(epochs=4, batch=8, steps_per_dispatch=2),
    )


def changed(experiment: Experiment, **parts) -> Experiment:
    """Replaces fields of nested components: changed(e, train={"epochs": 2})."""
    nested = {
        name: dataclasses.replace(getattr(experiment, name), **value) if isinstance(value, dict) else value
        for name, value in parts.items()
    }
    return dataclasses.replace(experiment, **nested)
