"""Valence and arousal of face clips: graph encoder, LSTM, mean over frames; on the built-in mouths with planted affect.

    python train.py --config configs/face_affect.py
    python evaluate.py --run face_affect --split test

Your own clips (Aff-Wild and the like) come by a manifest with the columns valence and arousal, from -1 to 1:
`--data.source manifest --data.root CLIPS.csv`. By frame (`--data.visemes.affect_moves`, or a manifest whose column
affect names a file for each clip, as Aff-Wild2 has them): `--task.by_frame`.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.data.sources.visemes import Visemes
from jaxlip.models.graph_affect import GraphAffect
from jaxlip.tasks.face_affect import FaceAffect


def get_config() -> Experiment:
    return Experiment(
        name="face_affect",
        data=FaceData(preset="lips40", visemes=Visemes(affect=0.3)),
        task=FaceAffect(model=GraphAffect()),
        optim=Optim(lr=2e-3, weight_decay=1e-3),
        train=Train(epochs=15, batch=32, monitor="disagreement"),
    )
