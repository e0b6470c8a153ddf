"""Experiments that train in seconds, for tests of everything around the model."""

import dataclasses

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.data.sources.visemes import Visemes
from jaxlip.models.conv_ctc import ConvCtc
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.tasks.sentence import Sentence
from jaxlip.tasks.word import Word


def get_config() -> Experiment:
    return Experiment(
        name="tiny",
        data=FaceData(preset="lips40", visemes=Visemes(words=4, train=44, val=12, test=12)),
        task=Word(model=GraphLstm(hidden=8, dropout=0.2)),
        optim=Optim(lr=3e-3, warmup_epochs=1.0),
        train=Train(epochs=4, batch=8, steps_per_dispatch=2),
    )


def get_sentences() -> Experiment:
    """Sentences of two words, for one epoch."""
    return changed(
        get_config(),
        name="sentences",
        data=FaceData(
            preset="lips40",
            features="extended56",
            buckets=(75,),
            visemes=Visemes(words=6, train=24, val=8, test=8, sentence=2),
        ),
        task=Sentence(model=ConvCtc(width=8, blocks=2, kernel=5, hidden=8, dropout=0.1, input_dropout=0.0)),
        train={"epochs": 1},
    )


def changed(experiment: Experiment, **parts) -> Experiment:
    """Replaces fields of nested components: changed(e, train={"epochs": 2})."""
    nested = {
        name: dataclasses.replace(getattr(experiment, name), **value) if isinstance(value, dict) else value
        for name, value in parts.items()
    }
    return dataclasses.replace(experiment, **nested)
