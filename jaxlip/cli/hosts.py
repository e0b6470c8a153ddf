"""Options of commands that several hosts run together, and the frame around such a command."""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

from jaxlip.cli.options import Parser
from jaxlip.engine import hosts
from jaxlip.engine.loop import NonFiniteLoss
from jaxlip.errors import Interrupted, UserError

LOST = ("gloo", "nccl", "unavailable", "coordination", "connection", "deadline_exceeded", "barrier")
"""Words in the errors of operations whose other end is gone."""
_reporters: list[subprocess.Popen] = []


def add_host_options(parser: Parser) -> None:
    group = parser.add_argument_group("several hosts", "the same command on each; see README.md")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="host 0 and a free port there")
    group.add_argument("--hosts", type=int, metavar="N", help="how many hosts there are")
    group.add_argument("--host-id", type=int, metavar="I", help="which of them this is, from 0")
    group.add_argument(
        "--distributed", action="store_true", help="find all this in the environment: SLURM, Open MPI, Cloud TPU"
    )
    group.add_argument(
        "--heartbeat", type=int, default=60, metavar="S", help="seconds after which a silent host is gone (60)"
    )


def cluster_of(options: argparse.Namespace) -> hosts.Cluster | None:
    """The cluster that the options name, None for one host. Raises UserError."""
    named = {"--coordinator": options.coordinator, "--hosts": options.hosts, "--host-id": options.host_id}
    absent = [name for name, value in named.items() if value is None]
    if options.heartbeat < 1:
        raise UserError(f"--heartbeat {options.heartbeat} is not 1 or more.")
    if options.distributed and len(absent) < len(named):
        raise UserError("--distributed finds the hosts by itself; leave out --coordinator, --hosts and --host-id.")
    if options.distributed:
        return hosts.Cluster(heartbeat=options.heartbeat)
    if len(absent) == len(named):
        return None
    if absent:
        raise UserError(f"{' and '.join(absent)} must be given too where there are several hosts.")
    if not options.coordinator.rpartition(":")[2].isdigit() or ":" not in options.coordinator:
        raise UserError(f"--coordinator {options.coordinator} is not HOST:PORT.")
    if not 0 <= options.host_id < options.hosts:
        raise UserError(f"--host-id {options.host_id} is not from 0 to {options.hosts - 1} (--hosts {options.hosts}).")
    return hosts.Cluster(
        coordinator=options.coordinator, count=options.hosts, number=options.host_id, heartbeat=options.heartbeat
    )


@contextlib.contextmanager
def joined(options: argparse.Namespace) -> Iterator[None]:
    """Joins the hosts that the options name, if any; in the end all part together."""
    cluster = cluster_of(options)
    if cluster is None:
        yield
        return
    _report_last_words(cluster.heartbeat)
    hosts.join(cluster)
    if not hosts.first():
        sys.stdout = open(os.devnull, "w")
    try:
        yield
    except (Interrupted, NonFiniteLoss):
        # Of which every host knows.
        hosts.part()
        raise
    except UserError:
        raise
    except Exception as error:
        if hosts.count() == 1 or not any(word in str(error).lower() for word in LOST):
            raise
        # JAX is about to find out who is gone, and ends the process.
        time.sleep(2 * cluster.heartbeat + 10)
        reason = str(error).splitlines()[0]
        raise UserError(f"another host is gone ({reason}); continue with --resume on all hosts.") from None
    hosts.part()


def _report_last_words(heartbeat: int) -> None:
    """From now on C++ writes to `last_words`, and Python where it did."""
    script = pathlib.Path(__file__).with_name("last_words.py")
    reporter = subprocess.Popen(
        [sys.executable, "-I", "-S", str(script), str(heartbeat)], stdin=subprocess.PIPE, start_new_session=True
    )
    assert reporter.stdin is not None
    _reporters.append(reporter)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
    for number in (1, 2):
        os.dup2(reporter.stdin.fileno(), number)
    reporter.stdin.close()
