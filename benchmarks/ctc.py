"""CTC loss and gradient: jaxlip against optax and PyTorch, interleaved in one process on one pinned thread or a GPU.

    pip install -e '.[peers]' -c constraints.txt
    python benchmarks/ctc.py
    python benchmarks/ctc.py --device gpu            # both of jaxlip's backends; PyTorch where it sees the GPU

Random logits and labels, half to all of the frames and labels of each example real. Each time is the loss summed over
the batch and its gradient with respect to the logits, softmax included. Losses are checked against PyTorch in float64
before anything is timed. A round is five repetitions of each contender in a row, so that the hand-over between JAX's
threads does not weigh on a busy machine. Prints for each contender the median and the smallest of the rounds, the
spread (largest - smallest over median), how many times as fast jaxlip is (ratio of medians), the largest error of the
gradient against PyTorch in float64, and for the two JAX losses the temporary memory that the compiled function takes.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from pinned import interleaved_seconds, median_and_spread, pin_and_restart, share_the_gpu

REPETITIONS = 5
SIZES = {"characters": (32, 75, 28, 32), "signs": (4, 300, 1232, 30), "speech": (64, 150, 60, 30)}


class Contender(NamedTuple):
    """`run` gives the summed loss and its gradient, `timed` makes them REPETITIONS times; `temporary` is in bytes."""

    run: Callable
    timed: Callable
    temporary: int | None


def batch(size_B: int, size_T: int, size_K: int, size_N: int):
    """Logits [B, T, K], masks of frames [B, T] and tokens [B, N], and labels [B, N] that their frames can hold."""
    rng = np.random.default_rng(0)
    logits_BTK = rng.normal(size=(size_B, size_T, size_K)).astype(np.float32)
    labels_BN = rng.integers(1, size_K, (size_B, size_N)).astype(np.int32)
    lengths_B = rng.integers(size_N // 2, size_N + 1, size_B)
    lengths_B[0] = size_N
    tokens_BN = np.arange(size_N)[None] < lengths_B[:, None]
    repeats_B = ((labels_BN[:, 1:] == labels_BN[:, :-1]) & tokens_BN[:, 1:]).sum(axis=1)
    frames_B = np.maximum(rng.integers(size_T // 2, size_T + 1, size_B), lengths_B + repeats_B)
    frames_B[0] = size_T
    return logits_BTK, np.arange(size_T)[None] < frames_B[:, None], labels_BN, tokens_BN


def repeated(run: Callable):
    """The last result; those before are dropped, as a training loop does."""
    for _ in range(REPETITIONS - 1):
        run()
    return run()


def jax_contender(loss: Callable, arguments) -> Contender:
    """A JAX loss of per-example values, compiled with its gradient for the first argument."""
    import jax

    arguments = jax.device_put(arguments)
    compiled = jax.jit(jax.value_and_grad(lambda *a: loss(*a).sum())).lower(*arguments).compile()
    memory = compiled.memory_analysis()
    return Contender(
        run=lambda: compiled(*arguments),
        timed=lambda: jax.block_until_ready(repeated(lambda: compiled(*arguments))),
        temporary=None if memory is None else memory.temp_size_in_bytes,
    )


def torch_contender(
    logits_BTK, frames_BT, labels_BN, tokens_BN, *, double: bool = False, device: str = "cpu"
) -> Contender:
    import torch

    torch.set_num_threads(1)
    x = torch.tensor(logits_BTK, dtype=torch.float64 if double else torch.float32, device=device, requires_grad=True)
    labels = torch.tensor(labels_BN, dtype=torch.int64, device=device)
    lengths = torch.tensor(frames_BT.sum(axis=1)), torch.tensor(tokens_BN.sum(axis=1))

    def step():
        log_p = x.log_softmax(-1).transpose(0, 1)
        loss = torch.nn.functional.ctc_loss(log_p, labels, *lengths, reduction="sum")
        return loss.detach(), torch.autograd.grad(loss, x)[0]

    def timed():
        repeated(step)
        if device != "cpu":
            torch.cuda.synchronize()

    return Contender(lambda: [value.cpu().numpy() for value in step()], timed, None)


def contenders(arrays, backend: str, device: str) -> dict[str, Contender]:
    import functools

    import optax

    from jaxlip.losses.ctc import ctc_loss

    logits_BTK, frames_BT, labels_BN, tokens_BN = arrays
    padding = (np.float32(1) - frames_BT.astype(np.float32), labels_BN, np.float32(1) - tokens_BN.astype(np.float32))
    ours = {"jaxlip": backend} | ({} if device == "cpu" else {"scan": "scan", "pallas": "pallas"})
    made = {name: functools.partial(ctc_loss, backend=chosen) for name, chosen in ours.items()}
    found = {name: functools.partial(jax_contender, loss, arrays) for name, loss in made.items()}
    found["optax"] = functools.partial(jax_contender, optax.ctc_loss, (logits_BTK, *padding))
    found["torch"] = functools.partial(torch_contender, *arrays, device="cpu" if device == "cpu" else "cuda")
    return {name: made for name, make in found.items() if (made := at_work(name, make, device))}


def at_work(name: str, make: Callable[[], Contender], device: str) -> Contender | None:
    """The contender; None, and why, where a GPU or PyTorch does not run it."""
    try:
        made = make()
        made.run()
    # Whatever a compiler or a driver complains of: the others can still be measured.
    except Exception as error:
        if device == "cpu":
            raise
        print(f"{name} does not run here: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
        return None
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=61)
    parser.add_argument(
        "--memory", choices=("kept", "default"), default="kept", help="glibc keeps large blocks, or not"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--backend", choices=("auto", "scan", "pallas"), default="auto")
    options = parser.parse_args()
    if options.device == "cpu":
        pin_and_restart(options.memory)
    else:
        share_the_gpu()
    threads = f"cpu, one thread, memory {options.memory}" if options.device == "cpu" else "gpu"
    print(f"loss and gradient, {threads}, {options.rounds} rounds")
    for name, size in SIZES.items():
        arrays = batch(*size)
        runs = contenders(arrays, options.backend, options.device)
        want_loss, want_gradient = torch_contender(*arrays, double=True).run()
        errors = {}
        for contender, value in runs.items():
            loss, gradient = value.run()
            np.testing.assert_allclose(loss, want_loss, rtol=1e-5)
            errors[contender] = np.abs(np.asarray(gradient) - want_gradient).max()
        seconds = interleaved_seconds({key: (value.timed, REPETITIONS) for key, value in runs.items()}, options.rounds)
        stats = {key: median_and_spread(value) for key, value in seconds.items()}
        print(f"{name}: B={size[0]} T={size[1]} K={size[2]} N={size[3]}")
        for key, (median, spread) in stats.items():
            smallest, ratio, temporary = min(seconds[key]), median / stats["jaxlip"][0], runs[key].temporary
            print(
                f"  {key:7s} {median * 1e3:6.2f} ms  smallest {smallest * 1e3:6.2f} ms  spread {spread:4.0%}"
                f"  jaxlip is {ratio:.2f} times as fast  gradient error {errors[key]:.0e}"
                + ("" if temporary is None else f"  temporary {temporary / 2**20:.2f} MiB")
            )


if __name__ == "__main__":
    main()
