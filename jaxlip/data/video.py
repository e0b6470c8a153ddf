"""Frames of one video, one at a time: upright RGB with strictly increasing times, and what was damaged on the way.

PyAV on one thread: cores are for other videos. Only local files are opened, never what a playlist inside one points to.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxlip.data.clips import DamagedClip
from jaxlip.errors import UserError

SUFFIXES = frozenset(
    ".mp4 .m4v .mov .avi .mpg .mpeg .mpe .m2v .vob .webm .mkv .wmv .asf .flv .f4v .3gp .3g2 .ts .mts .m2ts .ogv "
    ".mxf .y4m".split()
)
DEFAULT_RATE = 25.0
# Times that step back by more are a splice (a stream that begins again), not jitter.
SPLICE_SECONDS = 1.0
SHORTEST_STEP = 0.001


def import_av() -> Any:
    """PyAV. Raises UserError naming the extra where it is not installed."""
    try:
        import av  # pyright: ignore[reportMissingImports]
        import av.logging  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"reading videos needs PyAV ({error}); install it: pip install 'jaxlip[video]'.") from None
    return av


@dataclasses.dataclass(kw_only=True)
class Damage:
    """What the container and the decoder complained about; frame numbers are those of decoded frames."""

    undecodable_packets: int = 0
    error_frames: list[int] = dataclasses.field(default_factory=list)
    corrupt_frames: list[int] = dataclasses.field(default_factory=list)
    messages: list[str] = dataclasses.field(default_factory=list)
    untimed_frames: int = 0
    backward_times: int = 0
    ended_early: str | None = None

    def say(self, message: str) -> None:
        if message and message not in self.messages and len(self.messages) < 5:
            self.messages.append(message)


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """A decoded frame; `time` in seconds since the first. Its pixels are converted when `image` is first asked for."""

    time: float
    key: bool
    raw: Any
    video: "Video"

    @functools.cached_property
    def image(self) -> np.ndarray:
        """uint8 [height, width, 3], upright and C-contiguous: MediaPipe reads past the strides of anything else."""
        return self.video.upright(self.raw)


class Video:
    """An open video file. `size` (width, height) is that of the upright picture. Raises DamagedClip."""

    def __init__(self, path: pathlib.Path):
        self._av = import_av()
        self._av.logging.set_level(self._av.logging.ERROR)
        self._av.logging.set_skip_repeated(False)
        self.bytes = path.stat().st_size
        if not self.bytes:
            raise DamagedClip("the file is empty")
        try:
            # `file:` because a name such as `a:b.mp4` is a protocol to libav.
            self._container = self._av.open(
                f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"}
            )
        except (self._av.FFmpegError, ValueError) as error:
            raise DamagedClip(f"not a readable video ({_reason(error)})") from None
        try:
            self._stream = self._video_stream()
        except DamagedClip:
            self._container.close()
            raise
        self._stream.thread_type = "NONE"
        self._stream.codec_context.thread_count = 1
        self.damage = Damage()
        self.position = 0.0
        self._matrix: np.ndarray | None = None
        self._stored_size: tuple[int, int] | None = None
        self.resized = False
        self.size: tuple[int, int] = (0, 0)

    def _video_stream(self) -> Any:
        streams = self._container.streams.video
        picture = self._av.stream.Disposition.attached_pic
        streams = [s for s in streams if not s.disposition & picture and s.codec_context is not None]
        if not streams:
            sound = " (it has sound only)" if self._container.streams.audio else ""
            raise DamagedClip(f"no video stream that can be decoded{sound}")
        return max(streams, key=lambda s: s.codec_context.width * s.codec_context.height)

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def codec(self) -> str:
        return self._stream.codec_context.name

    @property
    def pixel_format(self) -> str:
        return str(self._stream.codec_context.pix_fmt)

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height; 1 where the file says nothing."""
        return float(self._stream.sample_aspect_ratio or 1)

    @property
    def declared_rate(self) -> float | None:
        """Frames a second as the container says."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate and rate > 0 else None

    @property
    def declared_frames(self) -> int | None:
        """How many frames the container says there are; many do not say."""
        return self._stream.frames or None

    @property
    def rotation(self) -> str:
        """How the stored picture is turned for display: empty, or such as `90 degrees` or `mirrored`."""
        if self._matrix is None or np.array_equal(self._matrix, np.eye(2)):
            return ""
        angle = round(np.degrees(np.arctan2(self._matrix[0, 1], self._matrix[0, 0]))) % 360
        return " ".join(
            [f"{angle} degrees clockwise"] * bool(angle) + ["mirrored"] * bool(np.linalg.det(self._matrix) < 0)
        )

    def upright(self, raw: Any) -> np.ndarray:
        """The picture as it is to be seen: uint8 [height, width, 3]."""
        if (raw.width, raw.height) != self._stored_size:
            assert self._stored_size is not None
            self.resized = True
            raw = raw.reformat(width=self._stored_size[0], height=self._stored_size[1], format="rgb24")
        image = raw.to_ndarray(format="rgb24")
        if self._matrix is not None:
            (a, b), (c, d) = self._matrix
            if a == 0:
                image, a, d = image.transpose(1, 0, 2), c, b
            image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
        return np.ascontiguousarray(image)

    def frames(self) -> Iterator[Frame]:
        """Every frame that decodes, in display order. Damage is noted, and the next packet tried."""
        clock = _Clock(self.declared_rate or DEFAULT_RATE, self.damage)
        count = 0
        with self._av.logging.Capture(local=True) as log:
            for packet in self._packets():
                try:
                    decoded = packet.decode()
                except (self._av.FFmpegError, ValueError) as error:
                    self.damage.undecodable_packets += 1
                    self.damage.say(_reason(error))
                    decoded = []
                if log:
                    self.damage.error_frames.append(count)
                    self.damage.say(str(log[0][2]).strip())
                    log.clear()
                for raw in decoded:
                    if self._stored_size is None:
                        self._begin(raw)
                    if raw.is_corrupt:
                        self.damage.corrupt_frames.append(count)
                    count += 1
                    yield Frame(clock.time_of(raw.time), raw.key_frame, raw, self)

    def _packets(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, self._av.EOFError):
                return
            except (self._av.FFmpegError, ValueError) as error:
                self.damage.ended_early = _reason(error)
                return
            if packet.pos:
                self.position = packet.pos / self.bytes
            yield packet

    def _begin(self, raw: Any) -> None:
        self._stored_size = (raw.width, raw.height)
        self._matrix = _display_matrix(raw)
        turned = self._matrix is not None and self._matrix[0, 0] == 0
        self.size = (raw.height, raw.width) if turned else (raw.width, raw.height)


class _Clock:
    """Presentation times -> strictly increasing seconds since the first frame."""

    def __init__(self, rate: float, damage: Damage):
        self.interval, self.damage = 1 / rate, damage
        self.origin: float | None = None
        self.last = -self.interval

    def time_of(self, stamp: float | None) -> float:
        if stamp is None:
            self.damage.untimed_frames += 1
            now = self.last + self.interval
        else:
            if self.origin is None:
                self.origin = stamp - (self.last + self.interval)
            now = stamp - self.origin
            if now <= self.last:
                self.damage.backward_times += 1
                if now < self.last - SPLICE_SECONDS:
                    self.origin = stamp - (self.last + self.interval)
                    now = self.last + self.interval
                else:
                    now = self.last + min(SHORTEST_STEP, self.interval)
        self.last = now
        return now


def _display_matrix(raw: Any) -> np.ndarray | None:
    """[[a, b], [c, d]] of right angles: stored (x, y) is shown at (a x + c y, b x + d y). None: leave it as it is."""
    for item in raw.side_data:
        if getattr(item.type, "name", "") == "DISPLAYMATRIX":
            matrix = np.frombuffer(bytes(item), np.int32)[[0, 1, 3, 4]].reshape(2, 2).astype(float)
            scale = np.abs(matrix).max()
            right = np.round(matrix / scale) if scale else np.eye(2)
            # Anything but a right angle cannot be undone without resampling, and no camera writes it.
            is_turn = np.array_equal(np.abs(right).sum(axis=0), [1, 1]) and np.allclose(right, matrix / scale, atol=0.1)
            return right if is_turn and not np.array_equal(right, np.eye(2)) else None
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
