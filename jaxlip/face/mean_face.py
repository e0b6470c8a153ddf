"""The mean face: 478 points of a neutral, symmetric face, from which edges, mirror maps and the viseme mouth derive.

Made from the silent frames of the GRID training clips (Cooke et al., JASA 2006, CC BY 4.0), each clip brought to
inter-ocular distance 1, then averaged with its own mirror image so that it is nobody's face:

    python -m jaxlip.face.mean_face GRID_ROOT SPLITS_JSON
"""

import functools
import json
import pathlib
import sys

import numpy as np

_FILE = pathlib.Path(__file__).with_name("mean_face.npy")


@functools.cache
def mean_face() -> np.ndarray:
    """f32 [478, 3]: x right, y down, z away from the camera; inter-ocular distance 1, eye centres at y = 0."""
    face_VC = np.load(_FILE)
    face_VC.setflags(write=False)
    return face_VC


def _make(root: pathlib.Path, splits: pathlib.Path) -> np.ndarray:
    from jaxlip.data.sources import grid
    from jaxlip.face.normalize import normalize_clip
    from jaxlip.face.presets import mirror_ids

    faces = []
    for name in json.loads(splits.read_text())["train"]:
        clip = grid.read_clip(root, f"s1/{name}")
        words = [w for w in clip.words if w.text not in grid.SILENCE]
        silent_T = np.ones(len(clip.detected), bool)
        silent_T[int(words[0].start) : int(np.ceil(words[-1].end)) + 1] = False
        if (silent_T & clip.detected).any():
            faces.append(normalize_clip(clip.landmarks, clip.detected, clip.size)[silent_T & clip.detected].mean(0))
    face_VC = np.mean(faces, axis=0)
    face_VC[:, 0] -= face_VC[[168, 6, 197, 195, 5, 4], 0].mean()
    return ((face_VC + face_VC[list(mirror_ids())] * [-1, 1, 1]) / 2).astype(np.float32)


if __name__ == "__main__":
    np.save(_FILE, _make(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
    print(f"wrote {_FILE.name}")
