"""Training step of the V4 word reader: jaxlip against PyTorch, interleaved in one process on one pinned thread.

    pip install -e '.[peers]' -c constraints.txt
    python benchmarks/train_step.py                  # V4, B=32, T=29, one CPU thread
    python benchmarks/train_step.py --device gpu     # jaxlip alone, on the accelerator that JAX finds

Every step is complete: forward, backward, clipping, AdamW. jaxlip also gathers the batch from resident data and
computes the 31 features from landmarks; the peers get them ready-made. `--memory kept` (the default) tells glibc to
keep large blocks, which helps PyTorch most; `--memory default` leaves glibc alone. Prints the median of each, and
ratios of medians.
"""

import argparse

from pinned import interleaved_seconds, median_and_spread, pin_and_restart


def jaxlip_stepper(config: str, batch: int, frames: int, steps: int):
    """A function that runs `steps` training steps in one dispatch, and the batch as the peers want it."""
    import dataclasses

    import jax
    import numpy as np

    from jaxlip.config import load_config
    from jaxlip.data.batches import FaceBatch
    from jaxlip.engine.optim import optimizer
    from jaxlip.engine.schedules import schedule
    from jaxlip.engine.state import initial_state
    from jaxlip.engine.step import Program

    experiment = load_config(config)
    data_config = dataclasses.replace(experiment.data, window=frames, buckets=(frames,))
    task, spec = experiment.task, experiment.task.shape_spec(data_config)
    rng = np.random.default_rng(0)
    rows = batch * 4
    ones = np.ones((rows, frames), bool)
    data = FaceBatch(
        landmarks_BTVC=rng.normal(size=(rows, frames, len(spec.input.ids), 3)).astype(np.float32),
        frames_BT=ones,
        detected_BT=ones,
        speech_BT=rng.random((rows, frames)) < 0.5,
        target=rng.integers(0, len(spec.classes), rows).astype(np.int32),
        examples_B=np.ones(rows, bool),
    )
    program = Program(
        task=task,
        model=task.build(spec),
        spec=spec,
        tx=optimizer(experiment.optim),
        schedule=schedule(experiment.optim, steps=1000, per_epoch=100),
    )
    dispatch = jax.jit(program.dispatch, donate_argnums=0)
    state = jax.jit(lambda key: initial_state(program.model, program.tx, False, key))(jax.random.key(0))
    data = jax.device_put(data)
    rows_KB = jax.device_put(rng.integers(0, rows, (steps, batch)).astype(np.int32))
    key = jax.random.key(1)

    def run() -> None:
        nonlocal state
        state, sums = dispatch(state, data, rows_KB, steps, key)
        jax.block_until_ready(sums)

    features = spec.input(data.landmarks_BTVC[:batch], data.frames_BT[:batch], data.speech_BT[:batch])
    peer_batch = (np.asarray(features.dense()), ones[:batch], np.asarray(data.target[:batch]))
    return run, peer_batch, experiment, spec


def peer_stepper(kind: str, peer_batch, experiment, spec):
    """A function that runs one training step of a PyTorch peer."""
    import torch
    import torch_peers

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = experiment.task.model
    sizes = {
        "hidden": model.hidden,
        "layers": model.graph_layers,
        "dropout": model.dropout,
        "classes": len(spec.classes),
    }
    if kind == "pytorch_dense":
        peer = torch_peers.DensePeer(torch.tensor(spec.topology.propagation_VV), **sizes)
    else:
        graph = spec.topology.to_jraph()
        peer = torch_peers.PygPeer([graph.senders.tolist(), graph.receivers.tolist()], **sizes)
    optimizer = torch_peers.make_optimizer(peer)
    x, frames, labels = (torch.tensor(array) for array in peer_batch)
    labels = labels.long()
    return lambda: torch_peers.train_step(peer, optimizer, x, frames, labels, experiment.task.label_smoothing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/v4.py")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--frames", type=int, default=29)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps a dispatch of jaxlip")
    parser.add_argument("--memory", choices=("kept", "default"), default="kept")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    options = parser.parse_args()
    if options.device == "cpu":
        pin_and_restart(options.memory)
    run, peer_batch, experiment, spec = jaxlip_stepper(options.config, options.batch, options.frames, options.steps)
    runs = {"jaxlip": (run, options.steps)}
    if options.device == "cpu":
        for kind in ("pytorch_dense", "pytorch_geometric"):
            runs[kind] = (peer_stepper(kind, peer_batch, experiment, spec), 1)
    seconds = interleaved_seconds(runs, options.rounds)
    stats = {name: median_and_spread(values) for name, values in seconds.items()}
    print(f"{options.config}  B={options.batch} T={options.frames}  {options.device}  memory {options.memory}")
    for name, (median, spread) in stats.items():
        print(
            f"{name:18s} {median * 1e3:8.1f} ms/step  {options.batch / median:8.1f} clips/s  spread {spread:.0%}"
            f"  jaxlip is {median / stats['jaxlip'][0]:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
