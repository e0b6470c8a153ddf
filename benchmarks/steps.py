"""The contenders of train_step.py and inference.py: jaxlip and PyTorch peers with the same weights, batch and rates.

Every contender is made by name in `contender`, so that its memory can be measured in a process of its own
(peak_memory.py) and it never meets the others there.
"""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

PEERS = ("dense", "pyg", "compiled", "autocast", "compiled+autocast")
KINDS = ("training", "inference")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What all contenders share."""

    kind: str
    config: str = "configs/v4.py"
    batch: int = 32
    frames: int = 29
    steps: int = 4
    """Steps a call; of jaxlip in training, a dispatch."""
    precision: str = "float32"
    """Of jaxlip."""
    lstm: str = "scan"
    """Of jaxlip."""
    device: str = "cpu"


@dataclasses.dataclass(frozen=True)
class Contender:
    """`run` makes `repetitions` steps; `logits` [B, K] are those of inference, before any step."""

    run: Callable[[], object]
    repetitions: int
    logits: Callable[[], Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="configs/v4.py")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--frames", type=int, default=29)
    parser.add_argument("--steps", type=int, help="steps a call of each contender (2 on a CPU, 100 on a GPU)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", default="dense,pyg", help=f"of {', '.join(PEERS)}, or none")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32", help="of jaxlip")
    parser.add_argument("--lstm", choices=("scan", "pallas", "cudnn"), default="scan", help="of jaxlip")
    parser.add_argument("--memory", choices=("kept", "default"), default="kept", help="what glibc does: see pinned.py")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--clock", choices=("cpu", "wall"), default="wall", help="cpu where others use the core too")
    parser.add_argument("--no-peak", action="store_true", help="do not measure peak memory")


def setting(kind: str, options: argparse.Namespace) -> Setting:
    return Setting(
        kind=kind,
        config=options.config,
        batch=options.batch,
        frames=options.frames,
        steps=options.steps or (100 if options.device == "gpu" else 2),
        precision=options.precision,
        lstm=options.lstm,
        device=options.device,
    )


def contender(name: str, chosen: Setting) -> Contender:
    """`jaxlip`, or a peer by its name in PEERS."""
    return jaxlip_contender(chosen) if name == "jaxlip" else torch_contender(name, chosen)


def words_of(chosen: Setting) -> Any:
    """jaxlip's model and clips; running moments are such that they matter."""
    import jax
    import jax.numpy as jnp

    from jaxlip.config import load_config
    from jaxlip.report.synthetic import WordSteps, computed_in

    experiment = computed_in(load_config(chosen.config), chosen.precision, chosen.lstm)
    words = WordSteps(experiment, frames=chosen.frames, clips=4 * chosen.batch)
    moments = {
        name: value + 0.1 + jnp.arange(value.size, dtype=jnp.float32).reshape(value.shape) % 7 / 7
        if jnp.issubdtype(value.dtype, jnp.floating)
        else value
        for name, value in words.state.model_state.items()
    }
    words.state = dataclasses.replace(words.state, model_state=jax.tree.map(jnp.asarray, moments))
    return words


def jaxlip_contender(chosen: Setting) -> Contender:
    import jax
    import numpy as np

    words = words_of(chosen)
    first_B = jax.device_put(np.arange(chosen.batch, dtype=np.int32))
    read = words.reading(first_B)
    if chosen.kind == "training":
        # Compiled here, so that what the compiler takes is not counted as memory of steps.
        dispatch = words.dispatch.lower(*words.training_arguments(chosen.batch, chosen.steps)).compile()
        return Contender(words.training(chosen.batch, chosen.steps, dispatch), chosen.steps, read)
    return Contender(lambda: [read() for _ in range(chosen.steps)], chosen.steps, read)


def peer_arrays(chosen: Setting) -> tuple[Any, ...]:
    """The first batch as the peers get it: features f32 [B, T, V, 31] ready-made, real frames, labels; and jaxlip's
    model, whose weights they take."""
    import jax
    import numpy as np

    words = words_of(chosen)
    spec, host = words.program.spec, jax.tree.map(lambda array: array[: chosen.batch], words.host)
    features = jax.jit(spec.input)(host.landmarks_BTVC, host.frames_BT, host.speech_BT)
    return np.array(features.dense()), host.frames_BT, host.target.astype(np.int64), words


def torch_contender(name: str, chosen: Setting) -> Contender:
    import torch
    import torch_peers

    if chosen.device == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    device = "cuda" if chosen.device == "gpu" else "cpu"
    x, frames, labels, words = peer_arrays(chosen)
    x, frames, labels = (torch.tensor(array, device=device) for array in (x, frames, labels))
    peer = torch_peers.with_weights_of(words, pyg=name == "pyg").to(device)
    forward = torch.compile(peer) if "compiled" in name else peer
    optimizer = torch_peers.make_optimizer(peer)
    half = torch.float16 if chosen.precision == "float16" else torch.bfloat16
    cast = (lambda: torch.autocast(device, half)) if "autocast" in name else contextlib.nullcontext
    smoothing = words.program.task.label_smoothing

    def logits():
        with torch.no_grad(), cast():
            return forward.eval()(x, frames).float().cpu().numpy()

    def train() -> None:
        forward.train()
        for _ in range(chosen.steps):
            with cast():
                loss = torch_peers.loss_of(forward, x, frames, labels, smoothing)
            torch_peers.update(peer, optimizer, loss)
        finish()

    def infer() -> None:
        forward.eval()
        with torch.inference_mode(), cast():
            for _ in range(chosen.steps):
                forward(x, frames)
        finish()

    finish = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    return Contender(train if chosen.kind == "training" else infer, chosen.steps, logits)
