"""Extraction against a bare FaceLandmarker loop on the same video, interleaved in one process on one pinned core.

    pip install -e '.[video]' -c constraints.txt
    python benchmarks/extract.py VIDEO --face-model face_landmarker.task
    python benchmarks/extract.py VIDEO --face-model face_landmarker.task --workers 2

The bare loop decodes with PyAV, calls FaceLandmarker (VIDEO mode, one face) on every frame and throws the landmarks
away; "landmarker kept" makes its landmarker once, before the clock starts, instead of once a file. jaxlip decodes,
reads landmarks, looks for other faces and for damage, measures head and mouth, and writes the `.npz`. With `--workers
N` it is instead N workers against one on copies of the video, on all cores that the process may use, the starting of
processes included: two need two free cores. Prints the median frames a second of each, spread (largest - smallest over
median), and ratios of medians.
"""

import argparse
import contextlib
import itertools
import pathlib
import shutil
import tempfile
from collections.abc import Callable

from pinned import interleaved_seconds, median_and_spread, pin_and_restart

COPIES_A_WORKER = 12


def jaxlip_run(
    video: pathlib.Path, model: pathlib.Path, folder: pathlib.Path, stack: contextlib.ExitStack
) -> Callable[[], int]:
    """A function that extracts the video into a new file as a worker does; says how many frames show a face."""
    from jaxlip.data.extract import Extraction, Extractor

    extractor = stack.enter_context(Extractor(Extraction(), model))
    numbers = itertools.count()
    return lambda: extractor.extract(video, folder / f"{next(numbers)}.npz")["detected"]


def bare_run(video: pathlib.Path, model: pathlib.Path, stack: contextlib.ExitStack, *, keep: bool) -> Callable[[], int]:
    """The shortest loop that does the work: decode, convert, detect. Says how many frames show a face."""
    import av
    import mediapipe
    import numpy as np
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=model.read_bytes()), running_mode=vision.RunningMode.VIDEO
    )
    kept = stack.enter_context(vision.FaceLandmarker.create_from_options(options)) if keep else None
    clock = itertools.count(step=40)

    def run() -> int:
        faces = 0
        with contextlib.ExitStack() as opened:
            landmarker = kept or opened.enter_context(vision.FaceLandmarker.create_from_options(options))
            for frame in opened.enter_context(av.open(str(video))).decode(video=0):
                # MediaPipe reads rows as if nothing lay between them: PyAV's padded ones would be noise without a face.
                pixels = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
                image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
                faces += bool(landmarker.detect_for_video(image, next(clock)).face_landmarks)
        return faces

    return run


def batch_run(videos: list[pathlib.Path], model: pathlib.Path, folder: pathlib.Path, workers: int):
    """A function that extracts all copies with so many workers, into a new folder."""
    from jaxlip.data.extract import Extraction
    from jaxlip.data.find_videos import Source
    from jaxlip.data.workers import Job, run_jobs

    numbers = itertools.count()

    def run() -> None:
        out = folder / f"{workers}-{next(numbers)}"
        jobs = [Job(source, source.target(out)) for source in (Source(v, pathlib.PurePath(v.name)) for v in videos)]
        done = run_jobs(jobs, workers=workers, options=Extraction(), model=model, on_frames=lambda *_: None)
        assert all(report["status"] != "failed" for _, report in done)

    return run


def print_table(runs: dict[str, Callable[[], object]], frames: int, rounds: int) -> None:
    """Frames a second of each contender, and the first one's as a multiple of the others'."""
    seconds = interleaved_seconds({name: (run, 1) for name, run in runs.items()}, rounds)
    stats = {name: median_and_spread(values) for name, values in seconds.items()}
    first, (first_median, _) = next(iter(stats.items()))
    for name, (median, spread) in stats.items():
        print(
            f"{name:28s} {frames / median:7.1f} frames/s  spread {spread:4.0%}"
            f"  {first}: {median / first_median:.2f} times the speed"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=pathlib.Path)
    parser.add_argument("--face-model", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--workers", type=int, help="one worker against so many, instead of the bare loop")
    options = parser.parse_args()
    if not options.workers:
        pin_and_restart("default")
    from jaxlip.data.landmarker import find_model
    from jaxlip.data.video import Video

    model = find_model(options.face_model)
    with Video(options.video) as video:
        frames = sum(1 for _ in video.frames())
    print(f"{options.video.name}, {frames} frames, {options.rounds} rounds")
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.workers:
            copies = [folder / f"{i}{options.video.suffix}" for i in range(COPIES_A_WORKER * options.workers)]
            for copy in copies:
                shutil.copy(options.video, copy)
            counts = {f"{n} worker{'s' * (n > 1)}": n for n in (options.workers, 1)}
            runs = {name: batch_run(copies, model, folder, n) for name, n in counts.items()}
            frames *= len(copies)
        else:
            runs = {
                "jaxlip": jaxlip_run(options.video, model, folder, stack),
                "bare loop": bare_run(options.video, model, stack, keep=False),
                "bare loop, landmarker kept": bare_run(options.video, model, stack, keep=True),
            }
            found = {name: run() for name, run in runs.items()}
            print(f"frames with a face: {', '.join(f'{name} {count}' for name, count in found.items())}")
        print_table(runs, frames, options.rounds)


if __name__ == "__main__":
    main()
