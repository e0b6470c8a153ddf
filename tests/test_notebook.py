"""The Colab notebook runs from top to bottom, small and on CPU, and is kept without outputs."""

import pytest
from conftest import REPOSITORY, SHARED

nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel, of the extra `test`")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel, of the extra `test`")

NOTEBOOK = REPOSITORY / "notebooks/colab_t4.ipynb"
SMALL = """
WORDS, CLIPS, EPOCHS = 3, 40, 2
PRECISION = "float16"
VIDEO = {video!r}
RUNS = pathlib.Path({runs!r})
"""


def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_outputs_are_stripped():
    cells = [cell for cell in notebook().cells if cell.cell_type == "code"]
    assert cells and all(not cell.outputs and cell.execution_count is None for cell in cells)


def video() -> str | None:
    """A GRID video, where there is one and what reading it needs; the notebook then skips nothing."""
    file = SHARED / "data/grid_s1/video/bbaf3s.mpg"
    model = SHARED / "models/face_landmarker.task"
    try:
        import av  # noqa: F401  # pyright: ignore[reportMissingImports]
        import mediapipe  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return str(file) if file.is_file() and model.is_file() else None


@pytest.mark.filterwarnings("default")
def test_every_cell_runs_on_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXLIP_FACE_MODEL", str(SHARED / "models/face_landmarker.task"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("MPLBACKEND", "agg")
    shown = video()
    read = notebook()
    (settings,) = [cell for cell in read.cells if "parameters" in cell.metadata.get("tags", [])]
    settings.source = SMALL.format(video=shown, runs=str(tmp_path / "runs"))
    nbclient.NotebookClient(read, timeout=400, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "\n".join(out.get("text", "") for cell in read.cells for out in cell.get("outputs", []))
    assert "epoch   2/2" in said and "train/loss_scale" in said
    assert "floor" in said
    overlay = tmp_path / "runs/read.mp4"
    assert overlay.is_file() if shown else "no video was given" in said
