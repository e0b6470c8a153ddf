"""Our best reader of GRID sentences: landmarks in motion, large kernels over time, one LSTM layer, sounds by CTC;
five such networks that are trained side by side and read together.

python train.py --config configs/grid_ctc_best.py --data.root GRID --data.splits SPLITS_JSON
python evaluate.py --run grid_ctc_best --split test

Speaker s1, test word error rate: lexicon 6.7 % [4.6, 9.0], beam 6.7 %, grammar 6.5 %, greedy 7.9 %, floor 82.3 %
(validation: lexicon 5.7 %); 55 minutes on one core. In characters, `--task.unit characters`: 7.3 % (validation 5.9 %).
"""

from jaxlip.config import Experiment, Optim, Train
from jaxlip.data.face import FaceData
from jaxlip.face.augment import Augment
from jaxlip.models.conv_ctc import ConvCtc
from jaxlip.tasks.sentence import Sentence


def get_config() -> Experiment:
    return Experiment(
        name="grid_ctc_best",
        data=FaceData(source="grid", features="extended56"),
        task=Sentence(
            model=ConvCtc(dropout=0.25, input_dropout=0.2),
            unit="sounds",
            members=5,
            word_ctc=0.5,
            augment=Augment(shift=0.02, scale=0.05, roll=2.0, noise=0.003, warp=0.2, move=2.0, mask=0.1, masks=3),
        ),
        optim=Optim(lr=2e-3, weight_decay=1e-2, average=0.995),
        train=Train(epochs=60, batch=16, patience=60, eval_epochs=2, monitor="token_error"),
    )
