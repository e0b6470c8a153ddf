"""Reads what is said in front of a camera, as it goes: the last seconds are read again and again.

A line on stdout for every change of what is read; on a terminal, also one that shows frames a second, pictures dropped
because they came faster than faces can be followed, and latency: from the newest picture that was read to the text.
Ctrl-C ends it.
"""

import contextlib
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np

from jaxlip.cli.options import Parser
from jaxlip.cli.quiet import quiet
from jaxlip.data.extract import Extraction
from jaxlip.data.landmarker import Detector, find_model, import_mediapipe
from jaxlip.data.tracking import FaceChoice, FaceTracker
from jaxlip.data.video import import_av
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.predict.camera import Camera
from jaxlip.predict.live import Reading, live
from jaxlip.predict.reader import Reader
from jaxlip.report.saved import load_saved


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip live", __doc__)
    parser.add_argument("--run", required=True, metavar="RUN", help="trained run, by name under --runs or by path")
    parser.add_argument("--source", default="0", metavar="CAMERA", help="number of a camera (0), or a video file")
    parser.add_argument("--every", type=float, default=0.4, metavar="S", help="seconds between readings (0.4)")
    parser.add_argument("--decoder", help="how sentences are read: lexicon (default), beam, grammar or greedy")
    parser.add_argument("--checkpoint", choices=("best", "latest"), default="best", help="best by default")
    parser.add_argument("--face", default="largest", help="largest (default), center, or N: the N-th from the left")
    parser.add_argument("--face-model", type=pathlib.Path, metavar="FILE", help="face_landmarker.task, if you have it")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of all runs")
    options = parser.parse_args(arguments)
    if not 0 < options.every <= 60:
        raise UserError(f"--every {options.every:g} is not in (0, 60] seconds.")
    choice = FaceChoice(Extraction(face=options.face).face)
    import_av()
    import_mediapipe()
    saved = load_saved(RunFolder.find(options.run, options.runs), options.checkpoint)
    reader = Reader(saved, options.decoder, one_shape=True)
    model = find_model(options.face_model).read_bytes()
    reader.warm_up()
    show = Show(sys.stdout.isatty())
    with quiet(), contextlib.closing(Detector(model)) as detector:
        with FaceTracker(model, detector, choice, blendshapes=False, pose=False) as tracker:
            with Camera(options.source) as camera:
                _follow(camera, tracker, reader, options.every, show)


def _follow(camera: Camera, tracker: FaceTracker, reader: Reader, every: float, show: "Show") -> None:
    try:
        for event in live(camera, tracker, reader, every=every):
            if isinstance(event, Reading):
                show.reading(event)
            else:
                show.picture(camera)
    except KeyboardInterrupt:
        pass
    show.summary(camera)


class Show:
    """What the terminal shows."""

    def __init__(self, terminal: bool):
        self._terminal = terminal
        self._start: float | None = None
        self._frames = 0
        self._latencies: list[float] = []
        self._said = ""

    def picture(self, camera: Camera) -> None:
        self._start = time.perf_counter() if self._start is None else self._start
        self._frames += 1
        if self._terminal:
            print(f"\r\x1b[K{self._status(camera)}", end="", flush=True)

    def reading(self, reading: Reading) -> None:
        self._latencies.append(reading.latency)
        said = _text(reading)
        if said != self._said:
            self._said = said
            clear = "\r\x1b[K" if self._terminal else ""
            print(f"{clear}{reading.time:7.2f} s  {said}  ({reading.latency * 1000:.0f} ms)", flush=True)

    def summary(self, camera: Camera) -> None:
        readings = len(self._latencies)
        late = ""
        if readings:
            median, slow = np.percentile(self._latencies, (50, 95)) * 1000
            late = f"; {readings} readings, latency {median:.0f} ms (median), {slow:.0f} ms (95th percentile)"
        clear = "\r\x1b[K" if self._terminal else ""
        print(f"{clear}{self._status(camera)}{late}")

    def _status(self, camera: Camera) -> str:
        seconds = time.perf_counter() - self._start if self._start is not None else 0.0
        rate = (self._frames - 1) / seconds if seconds > 0 and self._frames > 1 else 0.0
        late = f", {self._latencies[-1] * 1000:.0f} ms" if self._latencies else ""
        return f"{camera.taken} pictures, {self._frames} read, {camera.dropped} dropped; {rate:.1f} frames/s{late}"


def _text(reading: Reading) -> str:
    answer = reading.answer
    if answer is None:
        return f"[{reading.reason}]"
    if answer.likeliest:
        return "  ".join(f"{word} {p:.0%}" for word, p in answer.likeliest[:3])
    return answer.text or "[nothing]"
