"""Training step of a word reader: jaxlip against PyTorch, interleaved in one process.

    pip install -e '.[peers]' -c constraints.txt
    python benchmarks/train_step.py                                  # V4, B=32, T=29, one pinned CPU thread
    python benchmarks/train_step.py --config configs/v3.py --frames 75
    python benchmarks/train_step.py --device gpu --peers dense,pyg,compiled,autocast
    python benchmarks/train_step.py --device gpu --peers none        # jaxlip alone, where there is no torch for CUDA

Every step is complete: forward, backward, clipping, AdamW. jaxlip also gathers the batch from resident data and
computes the 31 features from landmarks; the peers get them ready-made. All have the same weights, and the same logits
before the clock starts. Prints medians, spread (largest - smallest over median), ratios of medians, and the memory
that steps take at the highest.
"""

from race import race

if __name__ == "__main__":
    race("training", __doc__)
