"""Our best word reader: all landmarks in motion as one vector, large kernels over time, one LSTM layer; five such
networks that are trained side by side and answer together.

python train.py --config configs/words_best.py --data.root GRID --data.splits SPLITS_JSON
python evaluate.py --run words_best --split test

Speaker s1, windows of 41 frames: test accuracy .944 [.925, .963], floor .044 (validation .932), 23 minutes on one core.
With 29 frames, `--data.window 29 --data.buckets 29`: .940 and .927 in two runs (validation .926 and .922); one network
of those, `--task.members 1`: .925 [.904, .944] (validation .909), 3 minutes. With the whole clip as context,
`--data.window 75 --data.buckets 75 --data.no-centred`: .950 [.931, .967] (validation .941), 40 minutes.
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.face.augment import Augment
from jaxlip.models.pool import MeanPool
from jaxlip.models.spatial import Landmarks
from jaxlip.models.temporal import Chain, Convolutions, Lstm
from jaxlip.models.word_reader import WordReader
from jaxlip.tasks.word import Word


def get_config() -> Experiment:
    return Experiment(
        name="words_best",
        data=FaceData(source="grid", features="extended56", window=41, buckets=(41,)),
        task=Word(
            model=WordReader(
                spatial=Landmarks(width=128, dropout=0.2),
                temporal=Chain(
                    first=Convolutions(width=128, blocks=3, kernel=9, dropout=0.2),
                    second=Lstm(hidden=128, layers=1, dropout=0.2, norm=False),
                ),
                pool=MeanPool(over="speech"),
                hidden=128,
                dropout=0.3,
            ),
            members=5,
            label_smoothing=0.1,
            augment=Augment(shift=0.02, scale=0.05, roll=2.0, noise=0.003, warp=0.2, move=2.0, mask=0.1, masks=2),
        ),
        optim=Optim(lr=2e-3, weight_decay=1e-2, average=0.995),
        train=Train(epochs=16, batch=32, patience=50, monitor="accuracy"),
    )
