"""A video written again with the landmarks and what was read drawn on it."""

import contextlib
import dataclasses
import functools
import os
import pathlib
from fractions import Fraction
from typing import Any

import numpy as np

from jaxlip.data.clips import DamagedClip
from jaxlip.data.recording import part_of
from jaxlip.data.video import Video, import_av
from jaxlip.errors import UserError
from jaxlip.face.presets import LIPS_INNER, LIPS_OUTER
from jaxlip.predict.recording import Recording
from jaxlip.predict.subtitles import Cue, at, cues
from jaxlip.tasks.answer import Answer

# Small pictures are enlarged so that their shorter side has at least this many pixels, for letters to be legible.
SHORTEST = 480
CODECS = (("libx264", {"crf": "18", "preset": "veryfast"}), ("mpeg4", {"qscale": "3", "flags": "+qscale"}))
# MPEG-4 Visual knows no finer one.
CLOCK = Fraction(1, 60_000)
POINT, LIPS = (225, 235, 245), (255, 205, 70)
SPOKEN, NOW, UNSURE = (255, 255, 255), (255, 214, 64), (176, 182, 190)
# Below this confidence a word is grey.
SURE = 0.5
SUPERSAMPLED = 4


def write_overlay(recording: Recording, answer: Answer, target: pathlib.Path, ids: tuple[int, ...]) -> None:
    """Writes `target` (mp4, no sound): the points `ids` on every frame with a face, and the answer as subtitles.

    Raises UserError if it cannot be written, DamagedClip if the video has changed since it was read.
    """
    target_part = part_of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Video(recording.path) as video:
            _encode(video, recording, cues(answer), target_part, ids)
        os.replace(target_part, target)
    except OSError as error:
        raise UserError(f"the overlay {target} cannot be written: {error.strerror or error}.") from None
    finally:
        with contextlib.suppress(OSError):
            target_part.unlink()


def _encode(
    video: Video, recording: Recording, subtitles: list[Cue], target: pathlib.Path, ids: tuple[int, ...]
) -> None:
    codec, options = _codec()
    with import_av().open(str(target), "w", format="mp4") as container:
        stream = painter = None
        for number, frame in enumerate(video.frames()):
            if number >= len(recording.times):
                raise DamagedClip(f"has more frames than the {len(recording.times)} that were read")
            if painter is None or stream is None:
                painter = Painter(video.size, video.pixel_aspect, ids)
                stream = container.add_stream(codec, rate=max(round(recording.fps), 1), options=options)
                stream.width, stream.height = painter.size
                stream.pix_fmt = "yuv420p"
                stream.time_base = stream.codec_context.time_base = CLOCK
            points_VC = recording.landmarks[number] if recording.detected[number] else None
            picture = painter.paint(frame.image, points_VC, at(subtitles, frame.time), frame.time)
            encoded = import_av().VideoFrame.from_ndarray(picture, format="rgb24")
            encoded.pts, encoded.time_base = round(frame.time / CLOCK), CLOCK
            container.mux(stream.encode(encoded))
        if stream is not None:
            container.mux(stream.encode())


def _codec() -> tuple[str, dict[str, str]]:
    """The first encoder that this PyAV has. Raises UserError."""
    av = import_av()
    for name, options in CODECS:
        if name in av.codecs_available:
            return name, options
    raise UserError(f"this PyAV has no encoder for an overlay ({' or '.join(name for name, _ in CODECS)}).")


class Painter:
    """Draws on pictures of one video."""

    def __init__(self, size: tuple[int, int], pixel_aspect: float, ids: tuple[int, ...]):
        width, height = size[0] * pixel_aspect, size[1]
        scale = max(1.0, SHORTEST / min(width, height))
        # Encoders halve the colours: sides are even.
        self.size = (2 * round(width * scale / 2), 2 * round(height * scale / 2))
        lips = set(LIPS_OUTER + LIPS_INNER)
        self._points = [i for i in ids if i not in lips]

    def paint(self, image: np.ndarray, points_VC: np.ndarray | None, cue: Cue | None, time: float) -> np.ndarray:
        """uint8 [height, width, 3] of `size`: the picture with landmarks (image-normalised) and subtitle."""
        import cv2  # pyright: ignore[reportMissingImports]

        larger = self.size[0] > image.shape[1]
        mode = cv2.INTER_CUBIC if larger else cv2.INTER_AREA
        picture = cv2.resize(image, self.size, interpolation=mode)
        if points_VC is not None:
            self._draw_face(picture, points_VC)
        return picture if cue is None else self._draw_subtitle(picture, cue, time)

    def _draw_face(self, picture: np.ndarray, points_VC: np.ndarray) -> None:
        import cv2  # pyright: ignore[reportMissingImports]

        xy_VC = np.round(points_VC[:, :2] * self.size * 2**SUPERSAMPLED).astype(np.int32)
        face = float(np.ptp(points_VC[:, 0]) * self.size[0])
        radius = max(face / 220, 0.8)
        for loop in (LIPS_OUTER, LIPS_INNER):
            line = xy_VC[list(loop)].reshape(-1, 1, 2)
            cv2.polylines(picture, [line], True, LIPS, max(round(face / 300), 1), cv2.LINE_AA, SUPERSAMPLED)
        for x, y in xy_VC[self._points].tolist():
            cv2.circle(picture, (x, y), round(radius * 2**SUPERSAMPLED), POINT, -1, cv2.LINE_AA, SUPERSAMPLED)

    def _draw_subtitle(self, picture: np.ndarray, cue: Cue, time: float) -> np.ndarray:
        """The cue's words on a dark band at the bottom, the one that is being spoken in another colour."""
        from PIL import Image, ImageDraw

        width, height = self.size
        size = max(round(height / 18), 12)
        while size > 8 and _line(cue, size)[-1].right > 0.94 * width:
            size -= 1
        words = _line(cue, size)
        left = (width - words[-1].right) / 2
        base, pad = height - round(0.85 * size), round(0.4 * size)
        canvas = Image.fromarray(picture).convert("RGBA")
        shade = Image.new("RGBA", canvas.size, (0, 0, 0, 0))
        pen = ImageDraw.Draw(shade)
        box = (left - 1.5 * pad, base - size - pad, left + words[-1].right + 1.5 * pad, base + 0.35 * size + pad)
        pen.rounded_rectangle(box, radius=pad, fill=(12, 16, 22, 190))
        spoken = cue.spoken_at(time)
        for placed, word in zip(words, cue.words, strict=True):
            colour = NOW if word is spoken else SPOKEN if word.confidence >= SURE else UNSURE
            pen.text((left + placed.left, base), placed.text, font=_font(size), fill=(*colour, 255), anchor="ls")
        return np.ascontiguousarray(np.asarray(Image.alpha_composite(canvas, shade).convert("RGB")))


@dataclasses.dataclass(frozen=True)
class _Placed:
    """A word of a line; `left` and `right` in pixels from the line's start."""

    text: str
    left: float
    right: float


def _line(cue: Cue, size: int) -> list[_Placed]:
    font, placed, left = _font(size), [], 0.0
    for word in cue.words:
        right = left + font.getlength(word.text)
        placed.append(_Placed(word.text, left, right))
        left = right + font.getlength(" ")
    return placed


@functools.cache
def _font(size: int) -> Any:
    """DejaVu Sans, which comes with matplotlib and knows Latin, Greek, Cyrillic, Arabic and more."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)
