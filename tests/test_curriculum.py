"""Weights of groups of examples, by phase, time and recent loss, in words, sentences and the engine; endless data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import changed, get_config, get_sentences

from jaxlip.cli.train import fit
from jaxlip.config import Curriculum, GroupWeight, Phase, from_json, override, to_json
from jaxlip.data.batches import Numbered, Recipe, Split, epoch_plan
from jaxlip.engine.curriculum import GroupSums, group_weights, recent_losses
from jaxlip.engine.loop import Trainer
from jaxlip.engine.run import RunFolder
from jaxlip.engine.step import take
from jaxlip.errors import UserError
from jaxlip.report.saved import load_saved

GROUPS = ("easy", "medium", "hard")
PHASES = Curriculum(
    phases=(
        Phase(weights=(GroupWeight(groups=("easy",)),)),
        Phase(start=2.0, weights=(GroupWeight(groups=("easy",)), GroupWeight(groups=("medium",), first=1.5))),
        Phase(start=4.0, weights=(GroupWeight(groups=("hard",), first=2.0, last=5.0, start=4.0, end=7.0),), others=0.5),
    )
)


def weights(curriculum, step, recent=(0.0, 0.0, 0.0), per_epoch=10):
    return np.asarray(group_weights(curriculum, GROUPS, jnp.int32(step), per_epoch, jnp.array(recent)))


def test_phases_and_ramps_by_epoch_and_by_step():
    for step, want in [(0, [1, 0, 0]), (19, [1, 0, 0]), (20, [1, 1.5, 0]), (40, [0.5, 0.5, 2]), (59, [0.5, 0.5, 3])]:
        np.testing.assert_allclose(weights(PHASES, step), want, rtol=1e-6)
    np.testing.assert_allclose(weights(PHASES, 1000), [0.5, 0.5, 5])
    by_step = dataclasses.replace(PHASES, unit="steps")
    np.testing.assert_allclose(weights(by_step, 5), [0.5, 0.5, 3], rtol=1e-6)
    later = Curriculum(phases=(Phase(start=1.0, others=2.0),))
    np.testing.assert_allclose([weights(later, 9), weights(later, 10)], [[1, 1, 1], [2, 2, 2]])


def test_adaptive_weights_follow_recent_losses_and_unseen_groups_weigh_one():
    curriculum = Curriculum(adaptive=0.5, memory=0.75)
    np.testing.assert_allclose(weights(curriculum, 3, (4.0, 1.0, 0.0)), [np.sqrt(1.6), np.sqrt(0.4), 1], rtol=1e-6)
    sums = GroupSums(GROUPS, jnp.array([6.0, 1.0, 0.0]), jnp.array([2.0, 4.0, 0.0]))
    recent_G = recent_losses(curriculum, jnp.array([1.0, 0.0, 7.0]), sums.loss_G, sums.count_G)
    np.testing.assert_allclose(recent_G, [0.75 + 0.25 * 3, 0.25, 7.0])
    np.testing.assert_allclose(sums.weighted(jnp.array([1.0, 2.0, 9.0])).value, (6 + 2) / (2 + 8))


@pytest.mark.parametrize("experiment", [get_config(), get_sentences()], ids=["words", "sentences"])
def test_words_and_sentences_have_groups_and_even_weights_change_nothing(experiment):
    corpus = experiment.task.corpus(experiment.data)
    groups = experiment.task.groups(corpus.spec)
    model = experiment.task.build(corpus.spec)
    batch = take(jax.tree.map(jnp.asarray, corpus.splits["train"].buckets[0]), jnp.array([0, 1, 2, -1]))
    variables = jax.jit(model.init)(jax.random.key(0))
    outputs = jax.jit(lambda variables, batch: model.apply(*variables, batch, None)[0])(variables, batch)
    grouped = jax.jit(lambda outputs, batch: experiment.task.grouped_loss(outputs, batch, corpus.spec))
    loss_N, group_N, weight_N = grouped(outputs, batch)
    assert int(group_N.min()) >= 0 and int(group_N.max()) < len(groups) and float(weight_N[-1]) == 0
    want = experiment.task.metrics(outputs, batch, train=True)["loss"].value
    np.testing.assert_allclose((loss_N * weight_N).sum() / weight_N.sum(), want, rtol=1e-6)


def test_a_run_under_a_curriculum_logs_its_groups_and_resumes_bit_for_bit(tmp_path):
    words = get_config().task.corpus(get_config().data).spec.classes
    first = Phase(weights=(GroupWeight(groups=words[:2]),))
    curriculum = Curriculum(phases=(first, Phase(start=1.0, others=1.0)), adaptive=0.5)
    experiment = changed(get_config(), curriculum=curriculum, train={"epochs": 2})
    fit(experiment, tmp_path, resume=False, overwrite=False)
    first_row, second_row = RunFolder(tmp_path / "tiny").read_metrics()
    assert first_row[f"train/group_weight/{words[3]}"] == 0 < second_row[f"train/group_weight/{words[3]}"]
    assert first_row[f"train/group_loss/{words[3]}"] > 0
    state = load_saved(RunFolder(tmp_path / "tiny"), "latest").state
    assert state.recent.shape == (4,) and (np.asarray(state.recent) > 0).all()
    trainer = Trainer(experiment, RunFolder(tmp_path / "tiny"), experiment.task.corpus(experiment.data))
    trainer.resume()
    np.testing.assert_array_equal(trainer.state.recent, state.recent)
    trainer.checkpoints.close()


def test_what_does_not_fit_is_one_line(tmp_path):
    phase = Phase(weights=(GroupWeight(groups=("nobody",)),))
    with pytest.raises(UserError, match="names the group 'nobody', but there are"):
        fit(changed(get_config(), curriculum=Curriculum(phases=(phase,))), tmp_path, resume=False, overwrite=False)
    with pytest.raises(ValueError, match="in the order of their starts"):
        Curriculum(phases=(Phase(start=2.0), Phase(start=1.0)))
    with pytest.raises(ValueError, match="GroupWeight.first=-1.0"):
        GroupWeight(groups=("easy",), first=-1.0)


def test_curricula_travel_as_json_and_take_overrides():
    experiment = changed(get_config(), curriculum=PHASES)
    assert from_json(to_json(experiment)) == experiment
    assert override(experiment, ["--curriculum.adaptive", "0.25"]).curriculum == dataclasses.replace(
        PHASES, adaptive=0.25
    )
    saved = to_json(experiment)
    del saved["curriculum"]
    assert from_json(saved).curriculum == Curriculum()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Squares:
    """Example i is i squared."""

    offset: jax.Array

    def make(self, numbers_B):
        return _Made(values_B=numbers_B**2 + self.offset, examples_B=numbers_B >= 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Made:
    values_B: jax.Array
    examples_B: jax.Array


def test_endless_data_never_repeat_and_do_not_depend_on_how_they_are_read():
    recipe = Squares(jnp.int32(1))
    assert isinstance(recipe, Recipe)
    split = Split(buckets=(recipe,), names=(Numbered("squares", 10),))
    assert len(split) == 10 and list(split.names[0])[9] == "squares#9" == split.names[0][9]
    seen = []
    for epoch in range(3):
        for part in epoch_plan(split, batch=4, per_dispatch=2, seed=5, epoch=epoch):
            for rows_B in part.rows_KB[: part.steps]:
                batch = jax.jit(take)(recipe, jnp.asarray(rows_B))
                seen += np.asarray(batch.values_B)[np.asarray(batch.examples_B)].tolist()
    assert sorted(seen) == [i**2 + 1 for i in range(30)]
    np.testing.assert_array_equal(split.take(0, np.array([2, 25])).values_B, [5, 626])
