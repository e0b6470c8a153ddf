"""Which backend computes a run's LSTMs: on one GPU the fastest of those that agree with the scan, elsewhere the scan.

A run keeps what it began with (config.json, "lstm"): backends agree to rounding, not to the bit.
"""

import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.config import Experiment, members_of
from jaxlip.data.batches import Corpus
from jaxlip.engine.precision import computing_in, precision_of
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.models.lstm_backends import BACKENDS, Call, Weights, lstm_backend, lstm_layer, recorded_calls

AGREE = {"float64": 1e-9, "float32": 1e-2, "float16": 2e-2, "bfloat16": 5e-2}
"""How far results may be from the scan's, as a part of the largest. Products in TF32 are a tenth of that apart."""
REPETITIONS = 5
ROUNDS = 3

Trial = Callable[[str, Call, int], tuple[float, list[np.ndarray]]]
"""(backend, call, copies side by side) -> seconds, and the results that are compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The backend of a run; what a forward and backward pass of all layers took with each that was tried; and why
    others were not."""

    backend: str = "scan"
    milliseconds: dict[str, float] = dataclasses.field(default_factory=dict)
    refused: dict[str, str] = dataclasses.field(default_factory=dict)

    def line(self) -> str:
        tried = [f"{name} {value:.2f} ms" for name, value in self.milliseconds.items()]
        refused = [f"{name} refused: {reason}" for name, reason in self.refused.items()]
        said = "; ".join([*tried, *refused])
        return f"LSTM: {self.backend}" + (f" ({said})" if said else "")


def fastest(calls: Sequence[Call], names: Sequence[str], trial: Trial, copies: int = 1) -> Choice:
    """Tries the scan and the named backends on every call, as often as it occurs, and takes the fastest that runs and
    agrees with the scan."""
    counts = Counter(calls)
    wanted = {call: trial("scan", call, copies) for call in counts}
    seconds = {"scan": sum(count * wanted[call][0] for call, count in counts.items())}
    refused: dict[str, str] = {}
    for name in names:
        total = 0.0
        for call, count in counts.items():
            one, reason = _tried(name, call, copies, trial, wanted[call][1])
            if reason:
                refused[name] = reason
                break
            total += count * one
        else:
            seconds[name] = total
    milliseconds = {name: round(value * 1e3, 3) for name, value in seconds.items()}
    return Choice(backend=min(seconds, key=seconds.__getitem__), milliseconds=milliseconds, refused=refused)


def _tried(name: str, call: Call, copies: int, trial: Trial, wanted: list[np.ndarray]) -> tuple[float, str]:
    """Seconds, and why the backend cannot be used, if so."""
    if reason := BACKENDS[name].refuses(call):
        return 0.0, reason
    try:
        seconds, results = trial(name, call, copies)
    except Exception as error:  # whatever a compiler for a GPU never met before may raise
        return 0.0, f"it does not run here: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
    for got, want in zip(results, wanted, strict=True):
        error = np.abs(got.astype(np.float64) - want).max() / max(np.abs(want).max(), 1e-30)
        if not error <= AGREE[call.dtype]:
            return 0.0, f"it disagrees with the scan by {error:.1e} of the largest value"
    return seconds, ""


def timed_trial(name: str, call: Call, copies: int) -> tuple[float, list[np.ndarray]]:
    """Seconds of a forward and backward pass on random inputs, the best of some; states and all gradients."""
    rng = np.random.default_rng(0)
    size_X = 4 * call.hidden
    shapes = [(call.fan_in, size_X), (call.hidden, size_X), (size_X,), (size_X,)]
    scales = [call.fan_in**-0.5, call.hidden**-0.5, 0.1, 0.1]

    def random(*shape: int) -> Any:
        return jnp.asarray(rng.normal(size=(copies, *shape)), call.dtype)

    weights = Weights(*(random(call.directions, *shape) * scale for shape, scale in zip(shapes, scales, strict=True)))
    x, wanted = (random(call.examples, call.frames, size) for size in (call.fan_in, call.directions * call.hidden))
    # Most frames are real, and there are holes.
    frames = jnp.asarray(rng.random((copies, call.examples, call.frames)) < 0.9)

    def loss(x, weights, frames, wanted):
        states = lstm_layer(x, frames, weights)
        return jnp.sum((states * wanted).astype(jnp.float32)), states

    run = jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 1), has_aux=True)))
    with lstm_backend(name):
        (_, states), gradients = run(x, weights, frames, wanted)
    results = [np.asarray(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves((states, gradients))]
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready([run(x, weights, frames, wanted) for _ in range(REPETITIONS)])
        seconds.append((time.perf_counter() - start) / REPETITIONS)
    return min(seconds), results


@functools.cache
def measured(calls: tuple[Call, ...], names: tuple[str, ...], copies: int) -> Choice:
    """`fastest` on this device, once a process."""
    return fastest(calls, names, timed_trial, copies)


def calls_of(experiment: Experiment, corpus: Corpus) -> tuple[Call, ...]:
    """Every LSTM layer that a step of each length bucket computes, in training; nothing is computed for it."""
    task: Any = experiment.task
    split, train = corpus.splits["train"], experiment.train
    model = computing_in(task.build(corpus.spec), precision_of(train.precision))
    rows = train.batch * members_of(task) // train.accumulate
    params, state = model.shapes()

    def step(params, state, batch, key):
        vary_key, model_key = jax.random.split(key)
        return model.apply(params, state, task.vary(batch, corpus.spec, vary_key), model_key)

    with recorded_calls() as calls:
        for bucket, names in enumerate(split.names):
            if len(names):
                one = split.take(bucket, np.zeros(1, np.int32))
                batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), one)
                jax.eval_shape(step, params, state, batch, jax.random.key(0))
    return tuple(calls)


def obstacle() -> str:
    """Why no kernel can be used on these devices, or "".

    On several GPUs automatic partitioning would gather the whole batch for the kernel on each.
    """
    if jax.default_backend() != "gpu":
        return f"there is no GPU here, only {jax.default_backend()}"
    return "" if jax.device_count() == 1 else f"it runs on one GPU, and there are {jax.device_count()}"


def choose(experiment: Experiment, corpus: Corpus, *, runs: int = 1) -> Choice:
    """The backend for a run that begins, or for as many that are trained at once.

    Raises UserError if `train.lstm` asks for one that cannot be used here.
    """
    asked, problem = experiment.train.lstm, obstacle()
    if asked == "scan" or (asked == "auto" and problem):
        return Choice()
    if problem:
        raise UserError(f"train.lstm={asked} cannot be used: {problem}; --train.lstm scan does without.")
    names = tuple(name for name in BACKENDS if name != "scan") if asked == "auto" else (asked,)
    calls = calls_of(experiment, corpus)
    choice = measured(calls, names, runs * members_of(experiment.task)) if calls else Choice()
    if asked in choice.refused:
        raise UserError(f"train.lstm={asked} cannot be used: {choice.refused[asked]}; --train.lstm scan does without.")
    return choice if asked == "auto" else dataclasses.replace(choice, backend=asked)


def choose_again(experiment: Experiment, corpus: Corpus, folder: RunFolder, *, runs: int = 1) -> Choice:
    """The backend for a run that is resumed: the one it began with, if `train.lstm` does not ask for another, which is
    then noted in its place.

    Raises UserError if it cannot be used here.
    """
    # Earlier versions knew no other.
    began = folder.read_config().get("lstm", {}).get("backend", "scan")
    asked = began if experiment.train.lstm == "auto" else experiment.train.lstm
    train = dataclasses.replace(experiment.train, lstm=asked)
    choice = choose(dataclasses.replace(experiment, train=train), corpus, runs=runs)
    if choice.backend != began:
        folder.note_config(lstm=dataclasses.asdict(choice))
    return choice


def choose_together(pairs: Sequence[tuple[RunFolder, Experiment]], resumed: Sequence[bool], corpus: Corpus) -> Choice:
    """The backend for runs that share one program: what those that are resumed began with, where there are any.

    Raises UserError if they do not agree.
    """
    old = [pair for pair, again in zip(pairs, resumed, strict=True) if again]
    choices = [choose_again(experiment, corpus, folder, runs=len(pairs)) for folder, experiment in old]
    if len(backends := {choice.backend for choice in choices}) > 1:
        raise UserError(f"these runs began with other LSTMs ({', '.join(sorted(backends))}); --train.lstm names one.")
    return choices[0] if choices else choose(pairs[0][1], corpus, runs=len(pairs))
