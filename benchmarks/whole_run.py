"""An epoch of V4 on 33,615 made-up clips of 25 frames that lie in memory, and what of it is not the device's work.

    python benchmarks/whole_run.py                    # CPU: some steps of an epoch on one pinned thread, scaled to all
    python benchmarks/whole_run.py --device gpu       # a whole epoch, 100 steps a dispatch

The epoch is planned and fed as training does it: batches drawn on the host, rows sent to the device, a dispatch, its
metrics brought back. Validation and checkpoints are not in it. `outside` is all time in which no dispatch is waited
for: the plan, the feed, metrics. With `--steps`, the plan of the whole epoch is timed and the dispatches are scaled.
"""

import argparse
import time

from pinned import CLOCKS, pin_and_restart, share_the_gpu


def epoch(words, options: argparse.Namespace) -> tuple[int, float, float, float]:
    """One (part of an) epoch: steps made, steps of a whole epoch, seconds in dispatches, seconds outside of them, the
    plan of the whole epoch scaled to the part."""
    import jax
    import numpy as np

    from jaxlip.data.batches import Resident, Split, epoch_plan, steps_per_epoch

    now = CLOCKS[options.clock]
    split = Split(buckets=(words.host,), names=(range(words.clips),))
    whole = steps_per_epoch(split, options.batch)
    began = now()
    plan = epoch_plan(split, batch=options.batch, per_dispatch=options.per_dispatch, seed=0, epoch=0)
    planned = now() - began
    made, inside = 0, 0.0
    began = now()
    feed = Resident((words.data,), jax.device_put).batches([(part.bucket, part.rows_KB) for part in plan])
    for part, (data, rows_KB) in zip(plan, feed, strict=True):
        steps = jax.device_put(np.int32(part.steps))
        entered = now()
        words.state, sums = words.dispatch(words.state, data, rows_KB, steps, words.key)
        jax.block_until_ready(sums)
        inside += now() - entered
        jax.device_get(sums)
        made += part.steps
        if options.steps and made >= options.steps:
            break
    outside = now() - began - inside + planned * made / whole
    return made, whole, inside, outside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/v4.py")
    parser.add_argument("--clips", type=int, default=33_615)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--per-dispatch", type=int, help="steps a dispatch (5 on a CPU, 100 on a GPU)")
    parser.add_argument("--steps", type=int, help="steps to make (20 on a CPU; a whole epoch on a GPU)")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--lstm", choices=("scan", "pallas", "cudnn"), default="scan", help="what computes LSTMs")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu where others use the core too")
    options = parser.parse_args()
    on_cpu = options.device == "cpu"
    if on_cpu:
        pin_and_restart("kept")
    else:
        share_the_gpu()
    options.per_dispatch = options.per_dispatch or (5 if on_cpu else 100)
    options.steps = options.steps or (20 if on_cpu else None)
    from jaxlip.config import load_config
    from jaxlip.report.synthetic import WordSteps, computed_in

    began = time.perf_counter()
    experiment = computed_in(load_config(options.config), options.precision, options.lstm)
    words = WordSteps(experiment, frames=options.frames, clips=options.clips)
    words.training(options.batch, options.per_dispatch)()
    ready = time.perf_counter() - began
    made, whole, inside, outside = epoch(words, options)
    seconds = (inside + outside) * whole / made
    scaled = "" if made == whole else f", scaled from {made} steps"
    print(
        f"{options.config} {options.precision}, {words.clips:,} clips of {options.frames} frames, B={options.batch}, "
        f"{options.per_dispatch} steps a dispatch, {options.device}, {options.clock} time\n\n"
        f"| seconds an epoch of {whole:,} steps{scaled} | epochs a minute | clips/s | outside of the device's work | "
        "data, first compilation |\n|---|---|---|---|---|\n"
        f"| {seconds:.1f} | {60 / seconds:.2f} | {words.clips / seconds:,.0f} | {outside / (inside + outside):.2%} | "
        f"{ready:.1f} s |\n"
    )


if __name__ == "__main__":
    main()
