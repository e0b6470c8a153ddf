"""The `jaxlip` command: one line and exit code 2 for what the user can mend."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from jaxlip.cli.allocation import keep_large_blocks
from jaxlip.cli.compiled import keep_compiled
from jaxlip.errors import Interrupted, UserError

COMMANDS = (
    "extract",
    "prepare",
    "inspect",
    "preflight",
    "train",
    "seeds",
    "kfold",
    "grow",
    "evaluate",
    "folds",
    "search",
    "doctor",
    "compare",
    "report",
    "ensemble",
    "predict",
    "live",
    "params",
    "teach",
    "size",
    "bench",
    "holistic",
    "mheight",
)

MANY_THREADS = ("extract", "holistic", "live", "predict", "prepare")
"""Commands whose threads would wait for each other's memory; the others compute in few large blocks."""

USAGE = """usage: jaxlip COMMAND [options]

  extract    face videos to landmarks, with a report
  prepare    a corpus -> shards of landmarks and their manifest
  inspect    what to look at in data before training on them, with a report
  preflight  what would make a run worthless, before its first step
  train      train an experiment from a config file
  seeds      train a config with several seeds at once; how far scores spread, and whether two configs differ
  kfold      cross-validation, all folds trained at once
  grow       train a model in phases, each wider than the one before
  evaluate   score a run on a split, with intervals, floors and plots
  folds      cross-validate configs over users, and which differences exceed the noise
  search     better hyper-parameters of a config, by trials that can be stopped and continued
  doctor     what is wrong with a run, and what to try next
  compare    runs side by side: is one better than another?
  report     report.html of a run, anew
  ensemble   score several runs as one
  predict    what is said in videos, by a trained run; with subtitles burnt in
  live       the same from a camera, as it goes
  holistic   videos of signing to landmarks of body, face and hands
  params     parameter table of a config's model
  size       what runs weigh, in three precisions, and how fast they are
  teach      what a run says of its training data, for a student to learn from
  bench      how fast this machine trains and reads, and what keeps it from being faster
  mheight    exact m-heights of analog codes, with a codeword that shows them

`jaxlip COMMAND --help` lists a command's options."""


def guarded(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    """Runs a command; returns the exit code."""
    try:
        command(arguments)
    except UserError as error:
        print(f"jaxlip: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"jaxlip: {stop}", file=sys.stderr)
        return 128 + stop.number
    except BrokenPipeError:
        # Whoever read the output has left, as `head` does; what Python still holds goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("jaxlip: interrupted; nothing was running that could be saved.", file=sys.stderr)
        return 130
    return 0


def run_and_exit(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> NoReturn:
    """Runs a command and ends the process with its exit code."""
    keep_compiled()
    if command.__module__.rpartition(".")[2] not in MANY_THREADS:
        keep_large_blocks()
    code = guarded(command, arguments)
    if code:
        # At once: libraries with work in the background complain about a failure again while Python shuts down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(0)


def main() -> None:
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(USAGE)
        sys.exit(0)
    if name not in COMMANDS:
        print(f"jaxlip: unknown command {name!r}; the commands are {', '.join(COMMANDS)}.", file=sys.stderr)
        sys.exit(2)
    # Only the one that is asked for: extracting landmarks, in every one of its processes, does without JAX.
    run_and_exit(importlib.import_module(f"jaxlip.cli.{name}").run, rest)
