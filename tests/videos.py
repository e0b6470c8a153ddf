"""Small videos for tests, written with PyAV: of any frames, times, codec, pixel format and rotation."""

import fractions

import numpy as np
import pytest

# A test file that imports this one is skipped where the extra is absent.
av = pytest.importorskip("av", reason="needs the extra video")

MILLISECONDS = fractions.Fraction(1, 1000)


def read_images(path, count=None):
    """RGB images [height, width, 3] of a video's first frames."""
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [
            frame.to_ndarray(format="rgb24").copy() for _, frame in zip(range(count or 10**6), frames, strict=False)
        ]


def noise(count, height=48, width=64, seed=0):
    """Images that nothing is to be found in."""
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def on_canvas(image, height, width, top, left, fill=90):
    """An image laid on a larger one."""
    canvas = np.full((height, width, 3), fill, np.uint8)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def write_video(
    path, images, *, rate=25, times=None, codec="mpeg4", pix_fmt="yuv420p", rotation=None, key_every=None, **options
):
    """Encodes RGB images. `times` in ms (default: i / rate); `rotation` in degrees goes into the display matrix."""
    with av.open(str(path), "w", options=options.pop("container_options", {})) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if codec == "mpeg4":
            stream.options = {"qscale": "2", "flags": "+qscale", "global_quality": "236", **options}
        if key_every:
            stream.gop_size = key_every
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.time_base = stream.codec_context.time_base = MILLISECONDS
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], MILLISECONDS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path, seconds=1):
    """A file with sound and nothing to see."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 16000 * seconds, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
