"""What a batch of videos says while it runs: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Hashable, Mapping

from tqdm import tqdm

LINE_SECONDS = 30.0


class VideoProgress:
    """Counts bytes, which are known beforehand as frames are not; shows frames a second and the time left."""

    def __init__(self, sizes: Mapping[Hashable, int]):
        self._sizes = sizes
        self._read: dict[Hashable, float] = {}
        self._frames = self._done = 0
        self._start = self._last_line = time.perf_counter()
        self._bar = tqdm(
            total=sum(sizes.values()),
            unit="B",
            unit_scale=True,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            leave=False,
            bar_format="{percentage:3.0f}%|{bar}| {postfix} [{elapsed}<{remaining}]",
        )

    def __enter__(self) -> "VideoProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, video: Hashable, frames: int, part: float) -> None:
        """`frames` more of a video are read, and with them this part of its file."""
        self._frames += frames
        self._move(video, min(part, 1.0))

    def finish(self, video: Hashable, *, skipped: bool) -> None:
        """A video is done; one that was done before does not count as work."""
        self._done += 1
        if skipped:
            self._bar.total -= self._sizes[video]
        else:
            self._move(video, 1.0)
        if self._bar.disable and time.perf_counter() - self._last_line > LINE_SECONDS:
            self._last_line = time.perf_counter()
            print(f"{self._done} of {len(self._sizes)} videos, {self._rate()}", flush=True)

    def say(self, line: str) -> None:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

    def _rate(self) -> str:
        return f"{self._frames / max(time.perf_counter() - self._start, 1e-9):,.0f} frames/s"

    def _move(self, video: Hashable, part: float) -> None:
        now = part * self._sizes[video]
        self._bar.set_postfix_str(f"{self._done}/{len(self._sizes)} videos, {self._rate()}", refresh=False)
        self._bar.update(now - self._read.get(video, 0.0))
        self._read[video] = max(now, self._read.get(video, 0.0))
