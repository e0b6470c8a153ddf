"""Scores a run: python evaluate.py --run NAME --split test [--json FILE]"""

import sys

from jaxlip.cli.evaluate import run
from jaxlip.cli.main import run_and_exit

if __name__ == "__main__":
    run_and_exit(run, sys.argv[1:])
