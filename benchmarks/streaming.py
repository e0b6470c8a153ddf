"""How much of the resident throughput is left where landmarks are streamed from shards, on real training steps of V4.

    python benchmarks/streaming.py [--clips 320] [--epochs 5] [--clock cpu]

Writes landmark files of a face with noise (29 frames, a word in each) to a temporary folder, makes shards of them
with `jaxlip prepare`, and trains on these twice in one process on one pinned thread: resident and streamed, epoch by
epoch in turn, each epoch a whole one of the engine's own loop. The first epoch of each, which compiles, is not
counted. Memory is kept between steps, as `train.py` has it. Reading ahead has no processor of its own here: what it
costs comes off the steps. `--clock cpu` counts the seconds that the process, reading threads included, had the
processor: for machines that have other work.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from pinned import pin_and_restart
from prepare import write_clips

FRAMES = 29


def trainer_of(root: pathlib.Path, runs: pathlib.Path, gib: float, config: str):
    """A trainer of the config on the shards, with so much memory for landmarks."""
    from jaxlip.config import load_config
    from jaxlip.engine.loop import Trainer
    from jaxlip.engine.run import RunFolder

    experiment = load_config(config)
    data = dataclasses.replace(
        experiment.data, source="prepared", root=str(root), window=FRAMES, buckets=(FRAMES,), resident_gib=gib
    )
    corpus = experiment.task.corpus(data)
    experiment = dataclasses.replace(experiment, data=data)
    return Trainer(experiment, RunFolder(runs / str(gib)), corpus)


def epochs_of(trainer, clock):
    """Trains epoch after epoch; yields the seconds of each."""
    import jax

    from jaxlip.engine.control import Signals
    from jaxlip.engine.mesh import Placement
    from jaxlip.engine.progress import Progress

    feed, progress = trainer.train_split.feed(Placement(trainer.mesh)), Progress(done=0, total=trainer.total_steps)
    while True:
        with jax.set_mesh(trainer.mesh), Signals() as signals:
            began = clock()
            trainer._train_epoch(feed, signals, progress)
            seconds = clock() - began
        trainer.end_epoch()
        yield seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/v4.py")
    parser.add_argument("--clips", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=5, help="of each, after the first")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[options.clock]
    pin_and_restart("kept")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root, out = pathlib.Path(folder) / "clips", pathlib.Path(folder) / "shards"
        root.mkdir()
        write_clips(root, options.clips, FRAMES)
        prepare = "import sys; from jaxlip.cli.main import main; sys.argv[0] = 'jaxlip'; main()"
        arguments = ["prepare", "--source", "manifest", "--root", str(root), "--out", str(out)]
        subprocess.run(
            [sys.executable, "-c", prepare, *arguments], check=True, env=os.environ, stdout=subprocess.DEVNULL
        )
        trainers = {name: trainer_of(out, pathlib.Path(folder), gib, options.config) for name, gib in WHERE.items()}
        epochs = {name: epochs_of(trainer, clock) for name, trainer in trainers.items()}
        for trainer in trainers.values():
            stack.callback(trainer.checkpoints.close)
        seconds: dict[str, list[float]] = {name: [] for name in epochs}
        for _ in range(1 + options.epochs):
            for name, each in epochs.items():
                seconds[name].append(next(each))
        report(options.config, trainers["resident"], {name: taken[1:] for name, taken in seconds.items()})


WHERE = {"resident": 8.0, "streamed": 0.0}


def report(config: str, trainer, seconds: dict[str, list[float]]) -> None:
    clips, batch = len(trainer.train_split), trainer.experiment.train.batch
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(f"{config}  B={batch} T={FRAMES}  {clips} clips an epoch, {trainer.per_epoch} steps, one thread")
    for name, taken in seconds.items():
        spread = (max(taken) - min(taken)) / median[name]
        print(f"{name:9s} {median[name]:7.2f} s an epoch  {clips / median[name]:7.1f} clips/s  spread {spread:.0%}")
    print(f"streamed is {median['resident'] / median['streamed']:.1%} of resident")


if __name__ == "__main__":
    main()
