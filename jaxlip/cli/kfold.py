"""Cross-validation: one run a fold, all trained at once, each scored on the part that it did not see.

Folds share no speaker where the data know enough of them, else no clip. Every run lies in runs/<name>-f0, -f1, ... as
if it had been trained alone (train.py --fold.of K --fold.index I). The test split is not touched.

  jaxlip kfold --config configs/v3.py --folds 5
"""

import dataclasses
import json
from collections.abc import Sequence

from jaxlip.cli.options import with_config
from jaxlip.cli.population import population_parser, train_population
from jaxlip.config import Experiment, Fold
from jaxlip.errors import UserError
from jaxlip.report.population import format_spreads, score_folds, spreads, to_json
from jaxlip.report.tables import scores_to_json


def run(arguments: Sequence[str]) -> None:
    parser = population_parser("jaxlip kfold", __doc__)
    parser.add_argument("--folds", type=int, default=5, metavar="K", help="folds (default 5)")
    options, experiment = with_config(parser, arguments)
    if options.folds < 2:
        raise UserError(f"--folds {options.folds} is not 2 or more.")
    folders = train_population(folded(experiment, options.folds), options)
    scores, pooled = score_folds(folders)
    by_name = spreads(scores)
    print(f"\n{experiment.name}: {len(folders)} folds, each scored on its own part; pooled examples {pooled.count}")
    print(format_spreads(by_name, pooled.scores))
    if options.json:
        runs = [str(folder.path) for folder in folders]
        figures = {"runs": runs, "folds": to_json(by_name), "pooled": scores_to_json(pooled)}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"wrote {options.json}")


def folded(experiment: Experiment, folds: int) -> list[Experiment]:
    """One experiment a fold."""
    return [
        dataclasses.replace(
            experiment,
            name=f"{experiment.name}-f{index}",
            fold=Fold(of=folds, index=index, seed=experiment.fold.seed),
        )
        for index in range(folds)
    ]
