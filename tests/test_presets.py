"""Which points are nodes, and that they mirror as a face does."""

import numpy as np
import pytest

from jaxlip.errors import UserError
from jaxlip.face.mean_face import mean_face
from jaxlip.face.presets import LIPS_INNER, LIPS_OUTER, PRESETS, is_mirror_closed, mirror_ids, mirror_map, preset_ids

SIZES = {"lips40": 40, "anatomical88": 88, "symmetric88": 88, "roi62": 62}
CLOSED = {"lips40": True, "anatomical88": False, "symmetric88": True, "roi62": False}


def test_every_preset_is_listed_here():
    assert set(PRESETS) == set(SIZES) == set(CLOSED)


@pytest.mark.parametrize("preset", PRESETS)
def test_size_order_and_range(preset):
    ids = preset_ids(preset)
    assert len(ids) == SIZES[preset]
    assert list(ids) == sorted(set(ids))
    assert 0 <= ids[0] and ids[-1] < 478


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_holds_the_lips(preset):
    assert len({*LIPS_OUTER, *LIPS_INNER}) == 40
    assert {*LIPS_OUTER, *LIPS_INNER} <= set(preset_ids(preset))


def test_unknown_preset_is_named():
    with pytest.raises(UserError, match="'lips41' is unknown.*lips40"):
        preset_ids("lips41")


def test_mirror_is_an_involution_over_all_points():
    mirror = mirror_ids()
    assert len(mirror) == 478
    assert [mirror[partner] for partner in mirror] == list(range(478))


@pytest.mark.parametrize("right,left", [(61, 291), (78, 308), (33, 263), (133, 362), (172, 397)])
def test_known_mirror_pairs(right, left):
    assert mirror_ids()[right] == left


@pytest.mark.parametrize("id_", [0, 13, 14, 17, 152, 1, 4])
def test_midline_points_are_their_own_mirror(id_):
    assert mirror_ids()[id_] == id_


def test_lip_loops_mirror_onto_themselves():
    mirror = mirror_ids()
    for loop in (LIPS_OUTER, LIPS_INNER):
        assert {mirror[i] for i in loop} == set(loop)


@pytest.mark.parametrize("preset,closed", CLOSED.items())
def test_which_presets_are_closed(preset, closed):
    assert is_mirror_closed(preset_ids(preset)) is closed


@pytest.mark.parametrize("preset", [name for name, closed in CLOSED.items() if closed])
def test_mirror_map_reflects_the_mean_face(preset):
    ids = preset_ids(preset)
    rows = np.array(mirror_map(ids))
    np.testing.assert_array_equal(rows[rows], np.arange(len(ids)))
    face_VC = mean_face()[list(ids)]
    np.testing.assert_allclose(face_VC[rows] * [-1, 1, 1], face_VC, atol=1e-6)


@pytest.mark.parametrize("preset", [name for name, closed in CLOSED.items() if not closed])
def test_mirror_map_refuses_open_presets_by_name(preset):
    with pytest.raises(UserError, match=f"preset {preset} cannot be flipped"):
        mirror_map(preset_ids(preset), f"preset {preset}")


def test_refusal_names_the_lonely_points():
    with pytest.raises(UserError, match=r"1 points.*\(61"):
        mirror_map((0, 61, 78, 308))
