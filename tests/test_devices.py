"""What a step computes does not depend on how many devices it runs on; eight of them in a process of their own."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import QUICKLY_COMPILED, REPOSITORY
from tiny import changed, get_config

from jaxlip.config import Experiment
from jaxlip.data.batches import Dealt, epoch_plan
from jaxlip.data.stream import StreamedSplit
from jaxlip.engine.loop import Trainer
from jaxlip.engine.mesh import Placement, data_mesh
from jaxlip.engine.run import RunFolder
from jaxlip.engine.step import take
from jaxlip.face.augment import Augment
from jaxlip.tasks.mix import Mix

STEPS = 20


AUGMENT = Augment(shift=0.05, scale=0.05, roll=5.0, noise=0.01, warp=0.2, mask=0.2, speed=0.1, drop=0.1, flip=0.5)


def everything_on(batch: int) -> Experiment:
    """All that could see the devices: dropout, augmentation, mixing across the batch, batch norms, clipping, and last
    batches that are not full."""
    task = get_config().task
    return changed(
        get_config(),
        task=dataclasses.replace(task, augment=AUGMENT, mix=Mix(mixup=0.3, cutmix=0.2, same_class=0.2)),
        optim={"lr": 7.5e-4},
        train={"batch": batch, "epochs": 20, "steps_per_dispatch": 1, "eval_epochs": 20},
    )


def losses(experiment: Experiment, devices: int, folder: pathlib.Path) -> list[float]:
    """The training loss of every one of the first steps."""
    corpus = experiment.task.corpus(experiment.data)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("data",))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("jaxlip.engine.loop.data_mesh", lambda: mesh)
        trainer = Trainer(experiment, RunFolder(folder), corpus)
    found: list[float] = []
    feed, steps = trainer.train_split.feed(Placement(mesh)), jax.device_put(np.int32(1))
    with jax.set_mesh(mesh):
        while len(found) < STEPS:
            plan = trainer.plan()
            for data, rows_KB in feed.batches([(part.bucket, part.rows_KB) for part in plan]):
                trainer.state, sums = trainer.dispatch(trainer.state, data, rows_KB, steps, trainer.key)
                found.append(float(sums["loss"].value))
            trainer.end_epoch()
    trainer.checkpoints.close()
    return found[:STEPS]


def test_eight_devices_equal_two_and_one(tmp_path):
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {QUICKLY_COMPILED}",
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}",
    }
    said = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], env=environment, text=True, capture_output=True, timeout=400
    )
    assert said.returncode == 0, said.stderr
    by_devices = json.loads(said.stdout.splitlines()[-1])
    for devices in ("2", "8"):
        np.testing.assert_allclose(by_devices[devices], by_devices["1"], rtol=1e-5)
    assert len(set(by_devices["1"])) == STEPS


@pytest.mark.slow
def test_a_batch_that_devices_do_not_divide_is_the_same_batch(tmp_path):
    found = [losses(everything_on(7), devices, tmp_path / str(devices)) for devices in (1, 2)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


class OneOfTwo(Placement):
    """The second of two hosts, which has got what the first one read."""

    def __init__(self, first):
        super().__init__(data_mesh())
        object.__setattr__(self, "first", first)

    def columns(self, batch: int) -> slice:
        return slice(batch // 2, batch)

    def deal(self, tree, batch: int):
        both = jax.tree.map(lambda a, b: np.concatenate([a, b], axis=1), next(self.first), tree)
        return super().deal(both, batch)


def test_a_host_reads_its_columns_and_the_whole_batch_comes_together():
    pytest.importorskip("grain", reason="the extra `data` is absent")
    corpus = get_config().task.corpus(get_config().data)
    resident, read = corpus.splits["train"], []

    def remember(bucket: int, row: int, frames: int) -> np.ndarray:
        read.append(row)
        return resident.buckets[bucket].landmarks_BTVC[row, :frames]

    light = tuple(dataclasses.replace(bucket, landmarks_BTVC=None) for bucket in resident.buckets)
    split = StreamedSplit(buckets=light, names=resident.names, read=remember)
    parts = epoch_plan(resident, batch=8, per_dispatch=4, seed=0, epoch=0)
    plan = [(part.bucket, part.rows_KB) for part in parts]

    def others(bucket: int, rows_KB: np.ndarray):
        """What the first host has read of a dispatch."""
        known_KB = np.maximum(rows_KB[:, :4], 0)
        batches = jax.tree.map(lambda array: array[known_KB], resident.buckets[bucket])
        return dataclasses.replace(batches, examples_B=rows_KB[:, :4] >= 0)

    feed = split.feed(OneOfTwo(others(*part) for part in plan))
    for (bucket, rows_KB), (data, dealt_KB) in zip(plan, feed.batches(plan), strict=True):
        assert isinstance(data, Dealt)
        for rows_B, dealt_B in zip(rows_KB, dealt_KB, strict=True):
            want, found = take(resident.buckets[bucket], jnp.asarray(rows_B)), take(data, jnp.asarray(dealt_B))
            for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(found), strict=True):
                np.testing.assert_array_equal(a, b)
    own = np.concatenate([rows_KB[:, 4:].reshape(-1) for _, rows_KB in plan])
    assert sorted(read) == sorted(np.maximum(own, 0))


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    print(json.dumps({n: losses(everything_on(16), n, folder / str(n)) for n in (1, 2, 8)}))
