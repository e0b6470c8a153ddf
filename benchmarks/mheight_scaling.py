"""Where a surrogate of m-heights matters: the cost of exact heights against that of a network, and its error, over n.

    python benchmarks/mheight_scaling.py --out scaling.png

Codes of length n = 9 ... 20 with k = n // 2 and integers on [-100, 100]; h_2 and h_3. Exact heights are timed up to
--exact (16 at the most; all m come at once) and counted beyond: operations of the minors, the sums and the sweep. The
surrogate is the original's network (`ExpertHeights`), whose cost hardly grows; it is trained for --epochs up to
--trained, where labels are cheap, and its error is shown as part of that of the mean. Times are the processor's, on one
pinned core.
"""

import argparse
import contextlib
import io
import math
import pathlib
import tempfile
import time

from pinned import pin_and_restart

LENGTHS = range(9, 21)
HEIGHTS = (2, 3)


def operations(n: int, k: int) -> int:
    """Of the exact heights of one matrix: Laplace expansions, sums of facets, ratios, and the sweep's minima."""
    minors = sum(math.comb(k, s) * math.comb(n - k, s) * 4 * s for s in range(1, min(k, n - k) + 1))
    ratios = math.comb(n, k + 1) * 2 * (k + 1)
    return minors + ratios + sum(math.comb(n, size) * size * (size - 1) for size in range(k + 2, n + 1))


def exact_seconds(n: int, k: int) -> float:
    """Processor time of a matrix, in NumPy, of enough matrices for a tenth of a second."""
    import numpy as np

    from jaxlip.mheight import heights

    count = max(1, min(256, int(2e8 / operations(n, k))))
    P_BKR = np.random.default_rng(n).integers(-100, 101, (count, k, n - k)).astype(np.float64)
    heights(P_BKR[:1])
    start = time.process_time()
    heights(P_BKR)
    return (time.process_time() - start) / count


def surrogate_seconds(n: int, k: int, batch: int = 256) -> float:
    """Processor time of a matrix, as a compiled batch; the parameters do not matter."""
    import jax
    import numpy as np

    from jaxlip.data.codes import CodeBatch, CodeSpec
    from jaxlip.models.expert_heights import ExpertHeights

    groups = tuple((k, m) for m in HEIGHTS)
    model = ExpertHeights().build(CodeSpec(n=n, groups=groups, mean_log2=(0.0,) * len(groups)))
    params, state = model.init(jax.random.key(0))
    entries = np.random.default_rng(0).integers(-100, 101, (batch, k * (n - k))).astype(np.float32)
    zeros = np.zeros((batch, len(HEIGHTS)), np.float32)
    codes = CodeBatch(
        entries_BD=entries, log2_BG=zeros, weight_BG=zeros, examples_B=np.ones(batch, bool), shapes=((k, n - k),)
    )
    run = jax.jit(lambda codes: model.apply(params, state, codes, None)[0].log2_BG)
    run(codes).block_until_ready()
    start = time.process_time()
    for _ in range(5):
        run(codes).block_until_ready()
    return (time.process_time() - start) / (5 * batch)


def surrogate_error(n: int, k: int, epochs: int) -> float:
    """Validation error of a short training on endless data, as part of that of the groups' means."""
    import numpy as np

    from jaxlip.cli.train import fit
    from jaxlip.config import Experiment, Optim, Train
    from jaxlip.data.codes import Codes, load_codes
    from jaxlip.engine.run import RunFolder
    from jaxlip.models.expert_heights import ExpertHeights
    from jaxlip.tasks.mheight import MHeight

    data = Codes(n=n, groups=tuple((k, m) for m in HEIGHTS), train=6_400, val=1_000, test=1)
    off = ExpertHeights(
        p_dropout=0.0,
        attention_dropout=0.0,
        expert_dropout=(0.0,) * 4,
        trunk_dropout=0.0,
        residual_dropout=0.0,
        final_dropout=0.0,
        last_dropout=0.0,
    )
    experiment = Experiment(
        name=f"n{n}",
        data=data,
        task=MHeight(model=off, balance=0.01),
        optim=Optim(warmup_epochs=0.5),
        train=Train(epochs=epochs, batch=128),
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        fit(experiment, pathlib.Path(folder), resume=False, overwrite=False)
        loss = min(row["val/loss"] for row in RunFolder(pathlib.Path(folder) / f"n{n}").read_metrics())
    batch = load_codes(data).splits["val"].buckets[0]
    mean_1G = np.average(batch.log2_BG, axis=0, weights=batch.weight_BG)[None]
    return loss / float(np.average((batch.log2_BG - mean_1G) ** 2, weights=batch.weight_BG))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("mheight_scaling.png"))
    parser.add_argument("--exact", type=int, default=14, help="longest code whose exact heights are timed")
    parser.add_argument("--trained", type=int, default=12, help="longest code that a surrogate is trained for")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    pin_and_restart("kept")
    rows, rate = [], 0.0
    for n in LENGTHS:
        k = n // 2
        timed = exact_seconds(n, k) if n <= options.exact else None
        rate = operations(n, k) / timed if timed else rate
        exact, surrogate = timed or operations(n, k) / rate, surrogate_seconds(n, k)
        error = surrogate_error(n, k, options.epochs) if n <= options.trained else None
        rows.append((n, exact, surrogate, error))
        shown = "not trained" if error is None else f"error {error:.3f} of the mean's"
        print(
            f"n={n:2d} k={k:2d}  {operations(n, k):12,} operations  exact {exact * 1e6:10,.1f} us"
            f"{'' if timed else ' (counted)'}  surrogate {surrogate * 1e6:7,.1f} us  {shown}",
            flush=True,
        )
    plot(rows, options)


def plot(rows: list, options: argparse.Namespace) -> None:
    from jaxlip.report.plots import new_figure

    figure = new_figure(10.0, 4.5)
    cost, error = figure.subplots(1, 2)
    lengths = [n for n, *_ in rows]
    cost.semilogy(lengths, [exact * 1e6 for _, exact, _, _ in rows], "o-", label="exact, all m")
    cost.axvline(options.exact + 0.5, linestyle=":", color="grey", label="timed | counted")
    cost.semilogy(lengths, [seconds * 1e6 for _, _, seconds, _ in rows], "s-", label="surrogate")
    cost.set(xlabel="n (k = n // 2)", ylabel="microseconds a matrix", title="cost on one core")
    cost.legend()
    trained = [(n, part) for n, _, _, part in rows if part is not None]
    error.plot([n for n, _ in trained], [part for _, part in trained], "s-")
    error.axhline(1, linestyle="--", color="grey")
    error.set(xlabel="n (k = n // 2)", ylabel="log2-MSE, part of the mean's", title="surrogate's error", ylim=(0, 1.1))
    figure.savefig(options.out, dpi=120)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
