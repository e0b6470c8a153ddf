"""Inference of a word reader: jaxlip against PyTorch, interleaved in one process.

    pip install -e '.[peers]' -c constraints.txt
    python benchmarks/inference.py                                   # V4, B=32, T=29, one pinned CPU thread
    python benchmarks/inference.py --device gpu --peers dense,pyg,compiled,autocast

jaxlip gathers the batch from resident data, computes the 31 features from landmarks, and the metrics; the peers get
features ready-made and give logits. All have the same weights and the same logits before the clock starts.
"""

from race import race

if __name__ == "__main__":
    race("inference", __doc__)
