"""The choice of what computes LSTMs: by injected times, on devices without a GPU, in a run's record and resumption."""

import dataclasses
import json

import numpy as np
import pytest
from tiny import changed, get_config, get_sentences

from jaxlip.cli import train
from jaxlip.engine import lstm_choice
from jaxlip.engine.loop import Trainer
from jaxlip.engine.lstm_choice import Choice, calls_of, choose, fastest, timed_trial
from jaxlip.errors import UserError
from jaxlip.models.lstm_backends import Call

CALL = Call(directions=2, examples=2, frames=3, fan_in=4, hidden=5, dtype="float32")


def injected(seconds, wrong=(), broken=()):
    """A trial of these seconds a backend, some of which give other values or raise."""

    def trial(name, call, copies):
        if name in broken:
            raise RuntimeError("no ptxas\nand a long story")
        return seconds[name] * call.frames * copies, [np.full(3, 1.1 if name in wrong else 1.0)]

    return trial


def test_the_fastest_over_all_calls_is_taken():
    longer = dataclasses.replace(CALL, frames=7)
    choice = fastest([CALL, longer, CALL], ["pallas", "cudnn"], injected({"scan": 3e-3, "pallas": 2e-3, "cudnn": 1e-3}))
    assert choice == Choice(backend="cudnn", milliseconds={"scan": 39.0, "pallas": 26.0, "cudnn": 13.0})
    assert choice.line() == "LSTM: cudnn (scan 39.00 ms; pallas 26.00 ms; cudnn 13.00 ms)"
    slow = fastest([CALL], ["pallas"], injected({"scan": 1.0, "pallas": 2.0}), copies=5)
    assert slow.backend == "scan" and slow.milliseconds["scan"] == 15000


def test_what_disagrees_breaks_or_does_not_fit_is_not_taken():
    trial = injected({"scan": 1.0, "pallas": 0.1, "cudnn": 0.1}, wrong=["pallas"], broken=["cudnn"])
    choice = fastest([CALL], ["pallas", "cudnn"], trial)
    assert choice.backend == "scan" and list(choice.milliseconds) == ["scan"]
    assert "disagrees with the scan by 1.0e-01" in choice.refused["pallas"]
    assert choice.refused["cudnn"] == "it does not run here: no ptxas"
    half = fastest([dataclasses.replace(CALL, dtype="bfloat16")], ["cudnn"], injected({"scan": 1.0, "cudnn": 0.1}))
    assert half.backend == "scan" and "not in bfloat16" in half.refused["cudnn"]
    nan = fastest([CALL], ["pallas"], lambda name, *_: (1.0, [np.ones(2) if name == "scan" else np.full(2, np.nan)]))
    assert "disagrees" in nan.refused["pallas"]


@pytest.mark.parametrize("copies", [1, 2])
def test_a_trial_times_a_forward_and_backward_pass(copies):
    (scan_seconds, want), (kernel_seconds, got) = (timed_trial(name, CALL, copies) for name in ("scan", "pallas"))
    assert scan_seconds > 0 and kernel_seconds > 0
    assert [leaf.shape for leaf in want][0] == (copies, 2, 3, 10)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_calls_of_a_run_are_those_of_its_buckets_layers_and_parts():
    experiment = changed(get_config(), train={"batch": 8, "accumulate": 2})
    corpus = experiment.task.corpus(experiment.data)
    first, second = calls_of(experiment, corpus)
    assert (first.directions, first.examples, first.hidden, first.dtype) == (2, 4, 8, "float32")
    assert first.frames == second.frames == corpus.splits["train"].buckets[0].frames_BT.shape[1]
    several = dataclasses.replace(
        experiment, task=dataclasses.replace(experiment.task, members=3), train=get_config().train
    )
    assert {call.examples for call in calls_of(several, corpus)} == {8}
    sentences = get_sentences()
    assert [call.frames for call in calls_of(sentences, sentences.task.corpus(sentences.data))] == [75]


def test_without_a_gpu_it_is_the_scan_and_a_kernel_is_refused():
    experiment = get_config()
    corpus = experiment.task.corpus(experiment.data)
    assert choose(experiment, corpus) == Choice()
    with pytest.raises(
        UserError, match="train.lstm=cudnn cannot be used: there is no GPU here, only cpu; --train.lstm"
    ):
        choose(changed(experiment, train={"lstm": "cudnn"}), corpus)


def test_a_kernel_that_was_asked_for_and_disagrees_is_refused(monkeypatch):
    experiment = changed(get_config(), train={"lstm": "pallas"})
    corpus = experiment.task.corpus(experiment.data)
    monkeypatch.setattr(lstm_choice, "obstacle", lambda: "")
    monkeypatch.setattr(lstm_choice, "timed_trial", injected({"scan": 1.0, "pallas": 2.0}))
    lstm_choice.measured.cache_clear()
    assert choose(experiment, corpus).backend == "pallas"
    monkeypatch.setattr(lstm_choice, "timed_trial", injected({"scan": 1.0, "pallas": 0.1}, wrong=["pallas"]))
    lstm_choice.measured.cache_clear()
    with pytest.raises(UserError, match="train.lstm=pallas cannot be used: it disagrees"):
        choose(experiment, corpus)
    assert choose(changed(experiment, train={"lstm": "auto"}), corpus).backend == "scan"
    lstm_choice.measured.cache_clear()


@pytest.fixture
def used(monkeypatch):
    """What the trainers that are made compute LSTMs with."""
    backends = []
    made = Trainer.__init__

    def noted(self, *arguments, **more):
        made(self, *arguments, **more)
        backends.append(self.program.lstm)

    monkeypatch.setattr(Trainer, "__init__", noted)
    return backends


def test_a_run_records_what_it_computes_with_and_is_resumed_with_it(tmp_path, monkeypatch, used):
    experiment = changed(get_config(), train={"epochs": 1})
    chosen = Choice(backend="pallas", milliseconds={"scan": 2.0, "pallas": 1.0}, refused={"cudnn": "it is not here"})
    monkeypatch.setattr(lstm_choice, "obstacle", lambda: "")
    monkeypatch.setattr(lstm_choice, "measured", lambda *_: chosen)
    train.fit(experiment, tmp_path, resume=False, overwrite=False)
    config = tmp_path / "tiny/config.json"
    assert json.loads(config.read_text())["lstm"] == dataclasses.asdict(chosen)

    monkeypatch.setattr(lstm_choice, "measured", lambda *_: Choice(milliseconds={"scan": 1.0, "pallas": 2.0}))
    train.fit(experiment, tmp_path, resume=True, overwrite=False)
    train.fit(changed(experiment, train={"lstm": "scan"}), tmp_path, resume=True, overwrite=False)
    assert used == ["pallas", "pallas", "scan"]
    assert json.loads(config.read_text())["lstm"]["backend"] == "scan"


def test_a_run_of_a_gpu_is_not_resumed_elsewhere_in_silence(tmp_path, used):
    experiment = changed(get_config(), train={"epochs": 1})
    train.fit(experiment, tmp_path, resume=False, overwrite=False)
    config = tmp_path / "tiny/config.json"
    saved = json.loads(config.read_text())
    assert saved["lstm"] == {"backend": "scan", "milliseconds": {}, "refused": {}}
    config.write_text(json.dumps({**saved, "lstm": {"backend": "cudnn"}}))
    with pytest.raises(UserError, match="train.lstm=cudnn cannot be used: there is no GPU"):
        train.fit(experiment, tmp_path, resume=True, overwrite=False)
    # A run of before there was a choice.
    config.write_text(json.dumps({key: value for key, value in saved.items() if key != "lstm"}))
    train.fit(experiment, tmp_path, resume=True, overwrite=False)
    assert used == ["scan", "scan"]
