"""Videos of signing to landmarks of body, face and hands: one .npz of 543 points a frame for each.

SRC is a video, a folder (searched with its subfolders) or a glob in quotes; the folders below
it are kept under DIR.

  jaxlip holistic videos --out landmarks --hand-model hand_landmarker.task --pose-model pose_landmarker.task
"""

import argparse
import contextlib
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from jaxlip.cli.options import Parser
from jaxlip.data.clips import DamagedClip
from jaxlip.data.find_videos import find_videos
from jaxlip.data.holistic_landmarker import HolisticLandmarker, HolisticModels
from jaxlip.data.recording import write_npz
from jaxlip.data.video import DEFAULT_RATE, Video
from jaxlip.errors import UserError
from jaxlip.holistic.layout import PARTS


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip holistic", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", nargs="+", metavar="SRC", help="video, folder or glob")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR", help="folder for the landmarks")
    for part in ("hand", "pose", "face"):
        parser.add_argument(
            f"--{part}-model", type=pathlib.Path, metavar="FILE", help=f"MediaPipe's {part}_landmarker.task"
        )
    options = parser.parse_args(arguments)
    models = HolisticModels(hand=options.hand_model, pose=options.pose_model, face=options.face_model)
    found = find_videos(options.src, options.out)
    failed = [f"{name}: {reason}" for name, reason in found.failures]
    for source in found.sources:
        target = source.target(options.out)
        try:
            print(f"{source.name}: {extract(source.path, target, models)}", flush=True)
        except DamagedClip as damage:
            failed.append(f"{source.name}: {damage}")
    for line in failed:
        print(f"failed: {line}", flush=True)
    if failed:
        raise UserError(f"{len(failed)} of {len(found.sources) + len(found.failures)} videos failed (lines above).")


def extract(source: pathlib.Path, target: pathlib.Path, models: HolisticModels) -> str:
    """Writes the landmarks of a video; returns how often each part was found. Raises DamagedClip."""
    frames: list[np.ndarray] = []
    times: list[float] = []
    milliseconds = -1
    with Video(source) as video, _landmarker(models) as landmarker:
        for frame in video.frames():
            milliseconds = max(round(frame.time * 1000), milliseconds + 1)
            frames.append(landmarker.read(frame.image, milliseconds))
            times.append(frame.time)
        size = video.size
    if not frames:
        raise DamagedClip("no frame can be decoded")
    landmarks_TVC = np.stack(frames)
    fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else DEFAULT_RATE
    target.parent.mkdir(parents=True, exist_ok=True)
    write_npz(target, {"landmarks": landmarks_TVC, "fps": np.float32(fps), "size": np.array(size, np.int64)})  # type: ignore[dict-item]
    parts = (f"{part.name} {np.isfinite(landmarks_TVC[:, part.points]).all(axis=(1, 2)).mean():.0%}" for part in PARTS)
    return f"{len(frames)} frames, {', '.join(parts)}"


@contextlib.contextmanager
def _landmarker(models: HolisticModels) -> Iterator[HolisticLandmarker]:
    landmarker = HolisticLandmarker(models)
    try:
        yield landmarker
    finally:
        landmarker.close()
