"""Trains an experiment: python train.py --config configs/v4.py [--field value ...]"""

import sys

from jaxlip.cli.main import run_and_exit
from jaxlip.cli.train import run

if __name__ == "__main__":
    run_and_exit(run, sys.argv[1:])
