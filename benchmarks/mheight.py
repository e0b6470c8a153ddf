"""Exact m-heights of n = 9 codes, all m at once, on one core: NumPy, and JAX compiled for the CPU (or a GPU).

    python -m pip install -e . -c constraints.txt
    python benchmarks/mheight.py

Integer P, uniform on [-100, 100], float64. Prints matrices a second (median of the rounds and spread), and the largest
difference of the two paths in log2.
"""

import argparse

from pinned import interleaved_seconds, median_and_spread, pin_and_restart

BATCH = 1024
REPETITIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--batch", type=int, default=BATCH, help="matrices a call; a GPU wants 100,000 or more")
    options = parser.parse_args()
    pin_and_restart("kept")
    import jax
    import numpy as np

    from jaxlip.mheight import heights

    print(f"{jax.default_backend()}, one host thread, {options.batch} matrices a call, {options.rounds} rounds")
    for k in (4, 5, 6):
        P_BKR = np.random.default_rng(k).integers(-100, 101, (options.batch, k, 9 - k)).astype(np.float64)
        with jax.enable_x64(True):
            on_device = jax.device_put(P_BKR)
        finite = np.isfinite(heights(P_BKR))
        error = np.abs(np.log2(heights(P_BKR)[finite]) - np.log2(np.asarray(heights(on_device))[finite])).max()
        runs = {
            "numpy": (lambda P=P_BKR: [heights(P) for _ in range(REPETITIONS)], REPETITIONS),
            "jax": (lambda P=on_device: [heights(P).block_until_ready() for _ in range(REPETITIONS)], REPETITIONS),
        }
        for name, seconds in interleaved_seconds(runs, options.rounds).items():
            median, spread = median_and_spread(seconds)
            print(f"  k={k} {name:5s} {options.batch / median:10,.0f} matrices/s  spread {spread:4.0%}")
        print(f"  k={k} largest difference in log2 {error:.0e}")


if __name__ == "__main__":
    main()
