"""Frames, times, rotation and damage of single videos, and their resampling."""

import numpy as np
import pytest
from videos import noise, write_sound, write_video

from jaxlip.data.clips import DamagedClip
from jaxlip.data.picture_damage import PictureCheck, is_damaged
from jaxlip.data.timing import describe, resample
from jaxlip.data.video import Damage, Frame, Video, _Clock


def corners(height=32, width=48):
    """White, red, green and blue quarters: top left, top right, bottom left, bottom right."""
    image = np.zeros((height, width, 3), np.uint8)
    h, w = height // 2, width // 2
    image[:h, :w], image[:h, w:], image[h:, :w], image[h:, w:] = (255,) * 3, (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return image


def quarters(image):
    """The names of an image's quarters, in reading order."""
    h, w = (n // 4 for n in image.shape[:2])
    colours = {(True, True, True): "W", (True, False, False): "R", (False, True, False): "G", (False, False, True): "B"}
    return "".join(colours[tuple((image[y, x] > 128).tolist())] for y in (h, 3 * h) for x in (w, 3 * w))


def read(path):
    with Video(path) as video:
        frames = [(frame.time, frame.image) for frame in video.frames()]
        return video, frames


@pytest.mark.parametrize(
    ("rotation", "seen", "size"),
    # Degrees counter-clockwise of a display matrix: WR/GB turned left is RB/WG.
    [(None, "WRGB", (48, 32)), (90, "RBWG", (32, 48)), (180, "BGRW", (48, 32)), (270, "GWBR", (32, 48))],
)
def test_the_display_matrix_turns_the_picture(tmp_path, rotation, seen, size):
    video, frames = read(write_video(tmp_path / "a.mp4", [corners()] * 3, rotation=rotation))
    assert quarters(frames[0][1]) == seen
    assert video.size == size and frames[0][1].shape == (size[1], size[0], 3)
    assert bool(video.rotation) == bool(rotation)


def test_images_are_contiguous_where_the_decoder_pads_its_rows(tmp_path):
    # 70 is no multiple of what decoders align rows to: a view of those rows would be read by MediaPipe as noise.
    _, frames = read(write_video(tmp_path / "a.mp4", noise(2, width=70)))
    assert all(image.flags.c_contiguous and image.shape == (48, 70, 3) for _, image in frames)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mpg", "mpeg1video", "yuv420p"),
        ("a.mkv", "ffv1", "gray"),
        ("b.mkv", "ffv1", "yuv444p10le"),
        ("c.mkv", "ffv1", "yuv420p16le"),
        ("a.mov", "qtrle", "rgb24"),
        ("b.mov", "png", "rgba"),
    ],
)
def test_containers_and_pixel_formats(tmp_path, name, codec, pix_fmt):
    image = np.full((48, 64, 3), 200, np.uint8)
    _, frames = read(write_video(tmp_path / name, [image] * 5, codec=codec, pix_fmt=pix_fmt))
    assert len(frames) == 5
    assert abs(frames[0][1].astype(int) - 200).max() <= 6
    assert np.allclose([time for time, _ in frames], np.arange(5) / 25, atol=2e-3)


def test_a_file_with_sound_only_says_so(tmp_path):
    with pytest.raises(DamagedClip, match="sound only"):
        Video(write_sound(tmp_path / "a.mp4"))


@pytest.mark.parametrize(
    "content", [b"", b"this is no video\n" * 100, b"\0" * 5000, b"\0\0\0\x18ftypmp42" + b"\0" * 90]
)
def test_what_is_no_video_is_a_damaged_clip(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DamagedClip):
        read(tmp_path / "a.mp4")


def test_a_playlist_opens_nothing_else(tmp_path):
    write_video(tmp_path / "a.ts", noise(3), codec="mpeg2video")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "b.mp4").write_text(playlist)
    with pytest.raises(DamagedClip):
        read(tmp_path / "b.mp4")


def test_a_name_that_looks_like_a_protocol(tmp_path):
    assert len(read(write_video(tmp_path / "a.mp4", noise(3)).rename(tmp_path / "concat:a.mp4"))[1]) == 3


def test_zeros_in_the_middle_are_noted_and_the_rest_is_read(tmp_path):
    path = write_video(tmp_path / "a.avi", noise(20), key_every=4)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
    path.write_bytes(content)
    video, frames = read(path)
    assert 15 <= len(frames) <= 20
    assert video.damage.error_frames or video.damage.undecodable_packets
    assert video.damage.messages


# Times


def clocked(stamps, rate=25.0):
    damage = Damage()
    clock = _Clock(rate, damage)
    return [round(clock.time_of(stamp), 6) for stamp in stamps], damage


def test_times_start_at_zero_and_missing_ones_continue():
    assert clocked([7.0, 7.04, None, 7.12])[0] == [0, 0.04, 0.08, 0.12]
    assert clocked([-0.08, -0.04, 0.0])[0] == [0, 0.04, 0.08]


def test_times_that_repeat_or_step_back_still_increase():
    times, damage = clocked([0.0, 0.04, 0.04, 0.02, 0.12])
    assert times == [0, 0.04, 0.041, 0.042, 0.12]
    assert damage.backward_times == 2


def test_a_stream_that_begins_again_goes_on():
    times, damage = clocked([10.0, 10.04, 0.0, 0.04])
    assert times == [0, 0.04, 0.08, 0.12]
    assert damage.backward_times == 1


def frames_at(times):
    return [Frame(float(time), False, None, None) for time in times]


def nearest(times, fps):
    """Brute force: for every time k / fps up to the last, the index of the nearest frame, the earlier of two."""
    steps = np.arange(int(times[-1] * fps + 1e-6) + 1) / fps
    return [int(np.argmin(np.round(np.abs(np.asarray(times) - step), 9))) for step in steps]


@pytest.mark.parametrize("fps", [10.0, 25.0, 29.97, 60.0])
@pytest.mark.parametrize("seed", range(5))
def test_resampling_takes_the_nearest_frame(fps, seed):
    times = np.concatenate([[0], np.cumsum(np.random.default_rng(seed).uniform(0.005, 0.2, 50))])
    source = [Frame(float(time), False, index, None) for index, time in enumerate(times)]
    resampled = list(resample(iter(source), fps))
    assert [frame.raw for frame in resampled] == nearest(times, fps)
    assert np.allclose([frame.time for frame in resampled], np.arange(len(resampled)) / fps)


def test_resampling_to_the_rate_that_it_has_changes_nothing():
    times = np.arange(75) * 3600 / 90000
    assert [frame.time for frame in resample(iter(frames_at(times)), 25.0)] == pytest.approx(times.tolist())
    assert len(list(resample(iter(frames_at([0.0])), 25.0))) == 1


def test_rates_of_steady_variable_and_holed_clips():
    steady = np.arange(50) / 25
    whole = describe(steady, 25.0, 50)
    assert (whole["fps"], whole["variable"], whole["missing_frames"]) == (25.0, False, 0)
    assert describe(np.round(np.arange(50) / 29.97, 3), 30000 / 1001, None)["fps"] == 30000 / 1001
    # The container is wrong about the rate: the times are right.
    assert describe(steady, 50.0, None)["fps"] == pytest.approx(25)
    holed = describe(np.delete(steady, [10, 11, 30]), 25.0, None)
    assert (holed["fps"], holed["variable"], holed["missing_frames"]) == (25.0, False, 3)
    assert describe(steady[:30], 25.0, 50)["missing_frames"] == 20
    variable = describe(np.cumsum([0.0, *[0.02, 0.06] * 20]), 25.0, None)
    assert variable["variable"] and variable["fps"] == pytest.approx(25) and variable["missing_frames"] == 0
    assert describe(np.zeros(1), None, None)["fps"] == 25


# Pictures that look damaged


def test_grey_and_smeared_pictures_look_damaged_and_others_do_not():
    picture = noise(1, 128, 192)[0]
    smeared = picture.copy()
    smeared[20:] = smeared[20]
    assert is_damaged(smeared)
    assert is_damaged(np.full((128, 192, 3), 130, np.uint8))
    assert not is_damaged(picture)
    assert not is_damaged(np.zeros((128, 192, 3), np.uint8))
    assert not is_damaged(np.full((128, 192, 3), (0, 130, 255), np.uint8))
    assert not is_damaged(np.zeros((8, 8, 3), np.uint8))


def test_damage_lasts_until_the_picture_is_renewed():
    rng = np.random.default_rng(0)
    whole = noise(1, 128, 192, seed=1)[0]
    smeared = whole.copy()
    smeared[20:] = smeared[20]

    def drift(image):
        return np.clip(image.astype(int) + rng.integers(-2, 3, image.shape), 0, 255).astype(np.uint8)

    check = PictureCheck()
    images = [smeared, drift(smeared), drift(smeared), whole, drift(whole)]
    # The key frame inside damage was encoded from it, with drift that hides the smear.
    assert [check.look(image, key=i in (0, 2)) for i, image in enumerate(images)] == [True, True, True, False, False]


@pytest.mark.parametrize(("clip", "damaged"), [("bbizzn", range(12)), ("pbio7a", range(72)), ("bbaf3s", ())])
def test_damaged_frames_of_grid(grid_videos, clip, damaged):
    check = PictureCheck()
    with Video(grid_videos / f"{clip}.mpg") as video:
        assert [i for i, frame in enumerate(video.frames()) if check.look(frame.image, frame.key)] == list(damaged)
