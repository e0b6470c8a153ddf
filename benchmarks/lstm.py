"""A bidirectional LSTM layer, forward and backward: jaxlip's backends and PyTorch, interleaved in one process.

    pip install -e '.[peers]' -c constraints.txt
    python benchmarks/lstm.py                                   # CPU, one pinned thread: the scan against PyTorch
    python benchmarks/lstm.py --device gpu                      # every backend that runs there; without PyTorch
    python benchmarks/lstm.py --device gpu --dtype bfloat16

Random inputs and weights, all frames real; states weighed by random numbers are summed, and the gradients are those of
the input and all weights. Before anything is timed, states and gradients are compared with those of the scan; what does
not run or disagrees is said and left out. Prints for each contender the median and the smallest time of a pass, the
spread (largest - smallest over median), how many times as fast the fastest backend is (ratio of medians), and the
largest difference from the scan as a part of the largest value.
"""

import argparse
from collections.abc import Callable

from pinned import interleaved_seconds, median_and_spread, pin_and_restart

# Examples, frames, fan-in, hidden units: the second of two layers, as words and sentences have it.
SIZES = {"words": (32, 29, 384, 192), "sentences": (256, 75, 384, 192)}
REPETITIONS = {"cpu": 1, "gpu": 20}
TORCH_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def arrays(size_B: int, size_T: int, size_D: int, size_H: int):
    """x [B, T, D], weights of the states in the loss [B, T, 2 H], and those of the layer, both directions first."""
    import numpy as np

    rng = np.random.default_rng(0)
    shapes = [(size_B, size_T, size_D), (size_B, size_T, 2 * size_H)]
    shapes += [(2, size_D, 4 * size_H), (2, size_H, 4 * size_H), (2, 4 * size_H), (2, 4 * size_H)]
    scales = [1, 1, size_D**-0.5, size_H**-0.5, 0.1, 0.1]
    return [(rng.normal(size=shape) * scale).astype(np.float32) for shape, scale in zip(shapes, scales, strict=True)]


def jax_run(name: str, inputs, dtype: str) -> Callable:
    """A compiled pass: states, and gradients of x and of the weights."""
    import jax
    import jax.numpy as jnp

    from jaxlip.models.lstm_backends import Weights, lstm_backend, lstm_layer

    x, wanted, *weights = (jnp.asarray(array, dtype) for array in inputs)
    frames = jnp.ones(x.shape[:2], bool)

    def loss(x, weights, wanted):
        states = lstm_layer(x, frames, weights)
        return jnp.sum((states * wanted).astype(jnp.float32)), states

    def both(x, weights, wanted):
        (_, states), (d_x, d_weights) = jax.value_and_grad(loss, (0, 1), has_aux=True)(x, weights, wanted)
        return states, d_x, *d_weights

    with lstm_backend(name):
        compiled = jax.jit(both).lower(x, Weights(*weights), wanted).compile()
    return lambda: compiled(x, Weights(*weights), wanted)


def torch_run(inputs) -> Callable:
    """PyTorch's layer; its results in the order and shapes of `jax_run`."""
    import torch

    torch.set_num_threads(1)
    x, wanted = (torch.tensor(array) for array in inputs[:2])
    x.requires_grad_()
    peer = torch.nn.LSTM(x.shape[2], wanted.shape[2] // 2, batch_first=True, bidirectional=True)
    groups = [[getattr(peer, f"{name}_l0{suffix}") for suffix in ("", "_reverse")] for name in TORCH_NAMES]
    with torch.no_grad():
        for group, array in zip(groups, inputs[2:], strict=True):
            for parameter, value in zip(group, array, strict=True):
                parameter.copy_(torch.tensor(value.T))
    parameters = [x, *(parameter for group in groups for parameter in group)]

    def run():
        states, _ = peer(x)
        d_x, *rest = torch.autograd.grad((states * wanted).sum(), parameters)
        pairs = zip(rest[::2], rest[1::2], strict=True)
        stacked = [torch.stack(pair) for pair in pairs]
        stacked = [weight.mT if weight.ndim == 3 else weight for weight in stacked]
        return states.detach(), d_x, *stacked

    return run


def differences(results, wanted) -> float:
    """The largest difference, as a part of the largest value of the same array."""
    import numpy as np

    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(results, wanted, strict=True)]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def contenders(inputs, device: str, dtype: str) -> tuple[dict[str, Callable], dict[str, float]]:
    """What runs and agrees, and how far it is from the scan."""
    import jax

    from jaxlip.engine.lstm_choice import AGREE
    from jaxlip.models.lstm_backends import BACKENDS

    # On a CPU the kernels only run in interpret mode, which says nothing of their speed.
    names = list(BACKENDS) if device == "gpu" else ["scan"]
    wanted = jax.device_get(jax_run("scan", inputs, dtype)())
    builds = {name: lambda name=name: jax_run(name, inputs, dtype) for name in names}
    if device == "cpu" and dtype == "float32":
        builds["torch"] = lambda: torch_run(inputs)
    runs, errors = {}, {}
    for name, build in builds.items():
        try:
            run = build()
            error = differences(jax.device_get(run()), wanted)
        except Exception as failure:
            print(f"  {name:7s} does not run: {(str(failure).splitlines() or [type(failure).__name__])[0][:160]}")
            continue
        if not error <= AGREE[dtype]:
            print(f"  {name:7s} disagrees with the scan: {error:.1e}")
            continue
        runs[name], errors[name] = run, error
    return runs, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--memory", choices=("kept", "default"), default="kept", help="glibc keeps large blocks")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=tuple(SIZES))
    options = parser.parse_args()
    if options.device == "cpu":
        pin_and_restart(options.memory)
    import jax

    if jax.default_backend() != options.device:
        parser.error(f"--device {options.device}: JAX runs on {jax.default_backend()} here")
    repetitions = REPETITIONS[options.device]
    print(f"forward and backward, {jax.devices()[0].device_kind}, {options.dtype}, {options.rounds} rounds")
    for size in options.sizes:
        size_B, size_T, size_D, size_H = SIZES[size]
        print(f"{size}: B={size_B} T={size_T} D={size_D} H={size_H}, both directions", flush=True)
        runs, errors = contenders(arrays(*SIZES[size]), options.device, options.dtype)

        def timed(run: Callable) -> Callable:
            return lambda: jax.block_until_ready([run() for _ in range(repetitions)])

        seconds = interleaved_seconds({name: (timed(run), repetitions) for name, run in runs.items()}, options.rounds)
        stats = {name: median_and_spread(values) for name, values in seconds.items()}
        fastest = min(median for name, (median, _) in stats.items() if name != "torch")
        for name, (median, spread) in stats.items():
            print(
                f"  {name:7s} {median * 1e3:8.2f} ms  smallest {min(seconds[name]) * 1e3:8.2f} ms  spread {spread:4.0%}"
                f"  jaxlip is {median / fastest:.2f} times as fast  difference {errors[name]:.0e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
