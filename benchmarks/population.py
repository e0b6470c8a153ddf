"""Training many models at once against training each alone: seconds of compilation and of steps.

    python benchmarks/population.py                  # 8 models of configs/v3.py, B=32, T=29, one CPU thread
    python benchmarks/population.py --members 8 --steps 4 --rounds 5
    python benchmarks/population.py --device gpu --steps 50

All members take their batches from one copy of the data and have their own seed, order and learning rate, as in `jaxlip
seeds`. On a CPU it is process time, since what else the machine does must not count; the solo run and the population
take turns.
"""

import argparse
import functools
from typing import Any

from pinned import CLOCKS, median_and_spread, pin_and_restart, share_the_gpu


def steppers(config: str, members: int, batch: int, frames: int, steps: int):
    """Functions that run `steps` steps of one model, and of all members."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxlip.config import load_config
    from jaxlip.engine.population import Member, Shared
    from jaxlip.engine.state import initial_state
    from jaxlip.models.members import one_by_one
    from jaxlip.report.synthetic import STEPS, made_up_clips, word_program

    experiment = load_config(config)
    rows = 4 * batch
    program = word_program(experiment, frames)
    spec: Any = program.spec
    data = jax.device_put(made_up_clips(spec, rows, frames))
    rng = np.random.default_rng(0)
    init = jax.jit(lambda key: initial_state(program.model, program.tx, False, key))
    keys_M = jax.random.split(jax.random.key(1), members)
    rates_S = jax.vmap(program.schedule)(jnp.arange(STEPS))
    own = Member(
        rates_S=jnp.linspace(0.5, 2.0, members)[:, None] * rates_S[None],
        steps=jnp.full(members, STEPS, jnp.int32),
        per_epoch=jnp.full(members, STEPS // 10, jnp.int32),
        scalars={},
        key=keys_M,
    )
    alone = jax.jit(program.dispatch, donate_argnums=0)
    shared = Shared(experiment, program)
    together = {
        name: jax.jit(over(shared.dispatch, in_axes=(0, 0, None, 0, 0)), donate_argnums=1)
        for name, over in (("vmap", jax.vmap), ("one by one", one_by_one))
    }
    state = init(keys_M[0])
    states = {name: jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(init, keys_M)) for name in together}
    rows_MKB = jax.device_put(rng.integers(0, rows, (members, steps, batch)).astype(np.int32))
    steps_M = jnp.full(members, steps, jnp.int32)

    def run_alone() -> None:
        nonlocal state
        state, sums = alone(state, data, rows_MKB[0], steps_M[0], keys_M[0])
        jax.block_until_ready(sums)

    def run_together(name: str) -> None:
        states[name], sums = together[name](own, states[name], data, rows_MKB, steps_M)
        jax.block_until_ready(sums)

    return {"alone": (run_alone, 1)} | {name: (functools.partial(run_together, name), members) for name in together}


def seconds_of(function, clock: str) -> float:
    start = CLOCKS[clock]()
    function()
    return CLOCKS[clock]() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/v3.py")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--frames", type=int, default=29)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="steps a dispatch")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="gpu: the time on the wall")
    options = parser.parse_args()
    if options.device == "cpu":
        pin_and_restart("kept")
    else:
        share_the_gpu()
    runs = steppers(options.config, options.members, options.batch, options.frames, options.steps)
    clock = "cpu" if options.device == "cpu" else "wall"
    first = {name: seconds_of(run, clock) for name, (run, _) in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, (run, models) in runs.items():
            seconds[name].append(seconds_of(run, clock) / options.steps / models)
    print(f"{options.config}  {options.members} members  B={options.batch} T={options.frames}")
    stats = {name: median_and_spread(values) for name, values in seconds.items()}
    for name, (median, spread) in stats.items():
        print(
            f"{name:10s}  first call {first[name]:5.1f} s   {median * 1e3:7.1f} ms a step and model"
            f"   {median / stats['alone'][0]:.2f} of alone   spread {spread:.0%}"
        )


if __name__ == "__main__":
    main()
