"""Two fake CPU devices, no silent rank promotion, and where the shared data are."""

import os
import pathlib

REPOSITORY = pathlib.Path(__file__).parents[1]
SHARED = pathlib.Path(os.environ.get("JAXLIP_SHARED", REPOSITORY / "../shared"))

# Tests compile the same small programs again and again, in subprocesses too: they share a cache, kept between runs.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(REPOSITORY / ".pytest_cache/compiled")
os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(512 * 2**20)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
# And most of their time is compilation of what computes next to nothing; XLA_FLAGS can say otherwise.
QUICKLY_COMPILED = "--xla_backend_optimization_level=0"
for flag in ("--xla_force_host_platform_device_count=2", QUICKLY_COMPILED):
    if flag.partition("=")[0] not in (chosen := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{chosen} {flag}"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def face_model() -> pathlib.Path:
    """MediaPipe's model file; skipped where it or the extra `video` is absent."""
    pytest.importorskip("av", reason="needs the extra video")
    pytest.importorskip("mediapipe", reason="needs the extra video")
    model = SHARED / "models/face_landmarker.task"
    if not model.is_file():
        pytest.skip(f"no face model at {model}; set JAXLIP_SHARED")
    return model


@pytest.fixture(scope="session")
def grid_videos(face_model) -> pathlib.Path:
    """The folder of original GRID videos; skipped where the shared data are absent."""
    folder = SHARED / "data/grid_s1/video"
    if not folder.is_dir():
        pytest.skip(f"no GRID videos at {folder}; set JAXLIP_SHARED")
    return folder


@pytest.fixture(scope="session")
def grid_root(tmp_path_factory) -> pathlib.Path:
    """Twenty-four real GRID clips as the extraction stage writes them; skipped where the shared data are absent."""
    pack = SHARED / "data/grid_s1"
    if not pack.is_dir():
        pytest.skip(f"no GRID data at {pack}; set JAXLIP_SHARED")
    import json
    import sys

    import numpy as np

    sys.path.insert(0, str(pack))
    try:
        from unpack import read_pack
    finally:
        sys.path.remove(str(pack))
    root = tmp_path_factory.mktemp("grid")
    (root / "landmarks/s1").mkdir(parents=True)
    (root / "align/s1").mkdir(parents=True)
    aligns = json.loads((pack / "align.json").read_text())
    splits = {"train": [], "val": [], "test": []}
    for number, (name, arrays) in zip(range(24), read_pack(pack / "landmarks-0.pack"), strict=False):
        np.savez(root / f"landmarks/s1/{name}.npz", **arrays)
        (root / f"align/s1/{name}.align").write_text(aligns[name])
        splits[("train", "train", "val", "test")[number % 4]].append(name)
    (root / "splits.json").write_text(json.dumps(splits))
    return root


@pytest.fixture(scope="session")
def runs_to_ask(tmp_path_factory) -> pathlib.Path:
    """A folder with the run `tiny` for words and `sentences`, of one epoch each."""
    import tiny

    from jaxlip.cli import train

    folder = tmp_path_factory.mktemp("runs")
    for experiment in (tiny.changed(tiny.get_config(), train={"epochs": 1}), tiny.get_sentences()):
        train.fit(experiment, folder, resume=False, overwrite=False)
    return folder
