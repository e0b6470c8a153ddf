"""Two processes that train one run: the same losses as one process, signals, hosts that are gone, mistakes."""

import argparse
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import QUICKLY_COMPILED, REPOSITORY
from tiny import changed, get_config
from trees import csv_tree, on

from jaxlip.cli import train
from jaxlip.cli.hosts import add_host_options, cluster_of
from jaxlip.cli.last_words import heard
from jaxlip.cli.options import Parser
from jaxlip.data.sources.visemes import Visemes
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError

TINY = str(pathlib.Path(__file__).with_name("tiny.py"))
HEARTBEAT = 10


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Hosts:
    """Two processes on one machine, which are gone when the test is over."""

    def __init__(self, runs: pathlib.Path, *extra: str, own: tuple[tuple[str, ...], ...] = ((), ())):
        self.folder, port = RunFolder(runs / "tiny"), free_port()
        environment = {
            **os.environ,
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}",
            "XLA_FLAGS": QUICKLY_COMPILED,
        }
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(REPOSITORY / "train.py"), "--config", TINY, "--runs", str(runs)]
                + ["--coordinator", f"127.0.0.1:{port}", "--hosts", "2", "--host-id", str(host)]
                + ["--heartbeat", str(HEARTBEAT), "--no-preflight", *extra, *own[host]],
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for host in range(2)
        ]

    def __enter__(self) -> "Hosts":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def wait_for_step(self, step: int) -> None:
        while (self.folder.steps or [0])[-1] < step:
            time.sleep(0.05)
            for process in self.processes:
                assert process.poll() is None, process.communicate()

    def ends(self, code: int, timeout: float = 240) -> list[tuple[str, str]]:
        """What both say on stdout and stderr."""
        said = [process.communicate(timeout=timeout) for process in self.processes]
        assert [process.returncode for process in self.processes] == [code, code], said
        return said


def losses(run: pathlib.Path) -> np.ndarray:
    rows = RunFolder(run).read_metrics()
    return np.array([[row["step"], row["train/loss"], row["val/loss"]] for row in rows])


@pytest.mark.slow
def test_two_processes_equal_one_though_each_reads_its_part_of_the_clips(tmp_path):
    """The one process holds all clips in memory, the two read them as they go."""
    pytest.importorskip("grain", reason="the extra `data` is absent")
    csv_tree(tmp_path / "clips", Visemes(words=4, train=44, val=12, test=12))
    data = ["--data.source", "manifest", "--data.root", str(tmp_path / "clips"), "--train.epochs", "3"]
    with Hosts(tmp_path / "two", *data, "--data.resident_gib", "0") as two:
        (said, errors), (silence, more_errors) = two.ends(0)
    assert "streamed from disk" in said and "report.html" in said and said.count("\nepoch ") == 3
    assert (silence, errors, more_errors) == ("", "", "")
    one = changed(get_config(), data=on("manifest", tmp_path / "clips"), train={"epochs": 3})
    train.fit(one, tmp_path / "one", resume=False, overwrite=False)
    found, want = losses(tmp_path / "two/tiny"), losses(tmp_path / "one/tiny")
    np.testing.assert_allclose(found[:, :2], want[:, :2], rtol=1e-5)
    # Running means lag behind biases that rounding moves (test_engine).
    np.testing.assert_allclose(found[:, 2], want[:, 2], rtol=1e-2)
    assert (tmp_path / "two/tiny/scores_val.json").is_file()


EPOCHS = ("--train.epochs", "12", "--no-report")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> pathlib.Path:
    runs = tmp_path_factory.mktemp("hosts")
    with Hosts(runs, *EPOCHS) as hosts:
        hosts.ends(0)
    return runs / "tiny"


def resumes_to_the_same_end(runs: pathlib.Path, uninterrupted: pathlib.Path) -> None:
    with Hosts(runs, *EPOCHS, "--resume") as hosts:
        assert "resuming at step" in hosts.ends(0)[0][0]
    np.testing.assert_allclose(losses(runs / "tiny"), losses(uninterrupted), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("host, number", [(1, signal.SIGTERM), (0, signal.SIGINT)])
def test_a_signal_to_one_stops_both_at_one_step(uninterrupted, tmp_path, host, number):
    with Hosts(tmp_path, *EPOCHS) as hosts:
        hosts.wait_for_step(6)
        hosts.processes[host].send_signal(number)
        said = [errors for _, errors in hosts.ends(128 + number, timeout=60)]
    assert said[0] == said[1] and said[0].startswith(f"jaxlip: stopped by {number.name} at step")
    assert said[0].endswith("saved; continue with --resume.\n") and said[0].count("\n") == 1
    resumes_to_the_same_end(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_host_that_is_killed_ends_the_other_with_one_line(uninterrupted, tmp_path, victim):
    with Hosts(tmp_path, *EPOCHS) as hosts:
        hosts.wait_for_step(6)
        hosts.processes[victim].kill()
        other = hosts.processes[1 - victim]
        _, errors = other.communicate(timeout=4 * HEARTBEAT + 30)
    gone = "host 0, which coordinates, is gone" if victim == 0 else f"host 1 is gone (no heartbeat for {HEARTBEAT} s)"
    assert errors == f"jaxlip: {gone}; continue with --resume on all hosts.\n"
    assert other.returncode != 0
    resumes_to_the_same_end(tmp_path, uninterrupted)


@pytest.mark.slow
def test_a_host_that_hangs_is_gone_too(tmp_path):
    with Hosts(tmp_path, *EPOCHS) as hosts:
        hosts.wait_for_step(6)
        hosts.processes[1].send_signal(signal.SIGSTOP)
        _, errors = hosts.processes[0].communicate(timeout=4 * HEARTBEAT + 30)
    assert "host 1 is gone" in errors and errors.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "own, message",
    [
        ((("--optim.lr", "0.1"), ()), "the hosts differ in their config"),
        (((), ("--data.source", "manifest", "--data.root", "nowhere")), "nowhere"),
    ],
)
def test_a_mistake_on_one_host_is_told_by_all(tmp_path, own, message):
    with Hosts(tmp_path, own=own) as hosts:
        for _, errors in hosts.ends(2):
            assert message in errors and errors.count("\n") == 1
    assert not (tmp_path / "tiny").exists()


def options(*arguments: str) -> argparse.Namespace:
    parser = Parser("train.py", None)
    add_host_options(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--hosts", "2"], "--coordinator and --host-id must be given too"),
        (["--coordinator", "a:1", "--hosts", "2", "--host-id", "2"], "--host-id 2 is not from 0 to 1"),
        (["--coordinator", "a", "--hosts", "2", "--host-id", "1"], "--coordinator a is not HOST:PORT"),
        (["--distributed", "--hosts", "2"], "leave out"),
        (["--distributed", "--heartbeat", "0"], "--heartbeat 0 is not 1 or more"),
    ],
)
def test_options_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        cluster_of(options(*arguments))


def test_without_options_there_is_one_host():
    assert cluster_of(options()) is None and cluster_of(options("--distributed")).coordinator is None


SILENT = """E1128 22:13:42.654938   19108 coordination_service.cc:1549] [99] Use error polling to propagate this error \
to all tasks: UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):
3
12
The tasks have crashed. Check the task logs for an earlier error.
E1128 22:13:42.655314   19119 coordination_service_agent.cc:289] Polled an error from coordination service.
F1128 22:13:42.655554   19119 client.h:80] Terminating process because the JAX service detected fatal errors.
*** Check failure stack trace: ***
    @     0x7ff80aa40634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
"""


def test_a_page_of_log_becomes_a_line_and_all_else_is_passed_on():
    other = ["W1128 22:13:41.000000   19108 cuda_executor.cc:10] something else\n", "and more of it\n"]
    lines = ["[Gloo] Rank 1 is connected to 1 peer ranks.\n", *other, *SILENT.splitlines(keepends=True)]
    said = list(heard(lines, "60"))
    line = "jaxlip: hosts 3, 12 are gone (no heartbeat for 60 s); continue with --resume on all hosts.\n"
    assert said == [*other, line]
    warning = ["W1128 22:13:41.000000   19108 coordination_service.cc:185] about a feature\n", *other]
    assert list(heard(warning, "60")) == other
