"""Head pose and sizes from landmarks, against faces that are turned by known angles."""

import numpy as np
import pytest

from jaxlip.data.quality import BINS, MEASURES, head_pose, histograms, leaves_picture, measure, summarize
from jaxlip.face.mean_face import mean_face


def turned(yaw=0.0, pitch=0.0, roll=0.0):
    """Matrix that turns the mean face (x right, y down, z away) by degrees to the right, up, and clockwise."""
    y, p, r = np.radians([yaw, pitch, roll])
    # Looking down -z: to the right is towards +x, up towards -y, clockwise takes x towards y.
    about_y = [[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]]
    about_x = [[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]]
    about_z = [[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]]
    return np.array(about_y) @ np.array(about_x) @ np.array(about_z)


def face_at(matrix, scale=50.0, centre=(180.0, 144.0, 0.0)):
    return (mean_face() @ matrix.T * scale + centre)[None].astype(np.float32)


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (20, 0, 0), (-35, 0, 0), (0, 15, 0), (0, -25, 0), (0, 0, 30), (0, 0, -40)]
)
def test_a_turn_about_one_axis_is_found(angles):
    assert head_pose(face_at(turned(*map(float, angles))))[0] == pytest.approx(angles, abs=0.01)


def test_turns_are_found_together_and_do_not_depend_on_size_or_place():
    here = head_pose(face_at(turned(20.0, -10.0, 15.0)))[0]
    there = head_pose(face_at(turned(20.0, -10.0, 15.0), scale=7.0, centre=(10.0, 900.0, 3.0)))[0]
    assert here[:2] == pytest.approx((20, -10), abs=0.01)
    assert there == pytest.approx(here, abs=0.01)


def test_speaking_does_not_turn_the_head():
    speaking = face_at(np.eye(3))
    speaking[:, [13, 14, 17, 152, 61, 291]] += [0, 9, 0]
    assert head_pose(speaking)[0] == pytest.approx((0, 0, 0), abs=0.01)


def test_lengths_are_pixels_of_the_picture():
    landmarks_TVC = np.zeros((1, 478, 3), np.float32) + face_at(np.eye(3)) / [400, 300, 400]
    landmarks_TVC[0, [61, 291]] = [[0.25, 0.5, 0], [0.5, 0.5, 0]]
    landmarks_TVC[0, [13, 14]] = [[0.3, 0.50, 0.4], [0.3, 0.52, 0]]
    row = dict(zip(MEASURES, measure(landmarks_TVC.astype(np.float32), (400, 300))[0], strict=True))
    assert row["mouth_width"] == pytest.approx(100)
    assert row["mouth_opening"] == pytest.approx(6, abs=1e-3)
    assert row["eye_distance"] == pytest.approx(50, rel=1e-3)


def test_a_face_over_the_edge_is_seen():
    inside = face_at(np.eye(3)) / [360, 288, 360]
    outside = inside + np.array([0.5, 0, 0], np.float32)
    assert leaves_picture(np.concatenate([inside, outside])).tolist() == [False, True]


def test_histograms_of_parts_add_up_and_summaries_are_percentiles():
    rows_TD = np.random.default_rng(0).normal(0, 20, (100, len(MEASURES)))
    parts = [histograms(rows_TD[:30]), histograms(rows_TD[30:])]
    for name, bins in histograms(rows_TD).items():
        assert sum(bins.values()) == 100
        assert all(int(low) % BINS[name] == 0 for low in bins)
        assert {low: sum(part[name].get(low, 0) for part in parts) for low in bins} == bins
    assert summarize(rows_TD)["yaw"]["median"] == pytest.approx(np.median(rows_TD[:, 0]), abs=0.01)
    assert summarize(rows_TD[:0]) is None
