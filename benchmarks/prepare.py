"""How much memory and time it takes to prepare many clips and to stream an epoch of them.

python benchmarks/prepare.py [--clips 100000] [--frames 8]

Writes landmark files of a still face with noise, and a CSV that says one of 500 words in each, to a temporary folder
(46 kB a clip of 8 frames); then runs `jaxlip prepare` and, in another process, reads the shards as training does where
nothing may be resident: one pass to cut examples, one for the fingerprint, one epoch of batches. Peak memory is the
largest resident set of each process.
"""

import argparse
import csv
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from jaxlip.face.mean_face import mean_face

WORDS = 500
STREAM = """
import sys, time
from jaxlip.data.batches import epoch_plan
from jaxlip.data.face import FaceData
from jaxlip.data.words import load_words

config = FaceData(source="prepared", root=sys.argv[1], window=9, buckets=(9,), resident_gib=0.0)
start = time.perf_counter()
corpus = load_words(config)
read = time.perf_counter() - start
corpus.fingerprint
hashed = time.perf_counter() - start - read
split = corpus.splits["train"]
plan = epoch_plan(split, batch=32, per_dispatch=25, seed=0, epoch=0)
start, count = time.perf_counter(), 0
for arrays, rows in split.feed(lambda tree: tree).batches([(part.bucket, part.rows_KB) for part in plan]):
    count += int(arrays.examples_B.sum())
seconds = time.perf_counter() - start
assert count == len(split), (count, len(split))
print(f"read in {read:.0f} s, fingerprint {corpus.fingerprint} in {hashed:.0f} s, "
      f"{count:,} examples of an epoch in {seconds:.0f} s ({count / seconds:,.0f} a second)")
"""


def write_clips(root: pathlib.Path, clips: int, frames: int) -> None:
    """Landmark files in folders of a thousand, and manifest.csv."""
    rng = np.random.default_rng(0)
    face_VC = (mean_face() * 0.15 + [0.5, 0.4, 0.0]).astype(np.float32)
    with (root / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["clip", "split", "label"])
        for number in range(clips):
            name = f"{number // 1000:04d}/{number:07d}"
            (root / name).parent.mkdir(exist_ok=True)
            noise_TVC = rng.standard_normal((frames, *face_VC.shape), np.float32) * np.float32(0.001)
            np.savez(
                root / f"{name}.npz",
                landmarks=face_VC + noise_TVC,
                detected=np.ones(frames, bool),
                fps=25.0,
                size=np.array([360, 288]),
            )
            split = {0: "val", 1: "test"}.get(number % 20, "train")
            table.writerow([name, split, f"word{number // 20 % WORDS}"])


def measured(command: list[str]) -> tuple[float, float]:
    """Runs a command; seconds, and its peak memory in GiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[:4]} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, out = pathlib.Path(folder) / "clips", pathlib.Path(folder) / "shards"
        root.mkdir()
        write_clips(root, options.clips, options.frames)
        prepare = "import sys; from jaxlip.cli.main import main; sys.argv[0] = 'jaxlip'; main()"
        arguments = ["prepare", "--source", "manifest", "--root", str(root), "--out", str(out)]
        seconds, gib = measured([sys.executable, "-c", prepare, *arguments])
        size = sum(path.stat().st_size for path in out.rglob("*")) / 2**20
        print(f"prepared {options.clips:,} clips in {seconds:.0f} s, peak {gib:.2f} GiB, {size:.0f} MiB of shards")
        seconds, gib = measured([sys.executable, "-c", STREAM, str(out)])
        print(f"streamed in {seconds:.0f} s, peak {gib:.2f} GiB")


if __name__ == "__main__":
    main()
