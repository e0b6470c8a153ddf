"""Frames that decode without complaint but show damage: a video that was broken before it was encoded again.

Two marks of a decoder's concealment are looked for: a picture that is mostly its neutral grey (no reference frame),
and one whose last good row is drawn down (lost slices). Either lasts until the picture is renewed at once. They are
reported, never left out: a face may still be found, on a chin that is a smear.
"""

import numpy as np
from jaxtyping import UInt8

# Neutral grey (luma 128) is 130 in RGB of limited range and 128 in that of full range.
GREY = (126, 132)
GREY_PART = 0.5
# On GRID, frames differ from the one before by up to 3 (mean over pixels, of 255), and by 8 to 40 where damage ends.
RENEWED = 5.0
BAND = 16
SMEARED_BANDS = 4
SMEARED_EDGES = 0.95
EDGES = 40
ROWS = 1088


class PictureCheck:
    """Looks at the frames of one video in order; `look` is True for a frame that looks damaged."""

    def __init__(self):
        self._last: np.ndarray | None = None
        self._damaged = False

    def look(self, image: UInt8[np.ndarray, "H W 3"], key: bool) -> bool:
        height, width = image.shape[:2]
        sample = image[:: height // 64 + 1, :: width // 64 + 1, 1].astype(np.int16)
        renewed = self._last is None or np.abs(sample - self._last).mean() > RENEWED
        self._last = sample
        if renewed:
            self._damaged = is_damaged(image)
        elif key and not self._damaged:
            # A key frame may show that damage began; one made from a damaged picture does not tell that it ended.
            self._damaged = is_damaged(image)
        return self._damaged


def is_damaged(image: UInt8[np.ndarray, "H W 3"]) -> bool:
    """Whether a picture by itself is mostly neutral grey or drawn down."""
    green = image[:ROWS, :: image.shape[1] // 512 + 1, 1]
    # Bytes below the range wrap around to far above it.
    grey_HWC = image - np.uint8(GREY[0]) <= GREY[1] - GREY[0]
    grey = (grey_HWC[..., 0] & grey_HWC[..., 1] & grey_HWC[..., 2]).mean() > GREY_PART
    return bool(grey) or _is_drawn_down(green.astype(np.int16))


def _is_drawn_down(green_HW: np.ndarray) -> bool:
    """Whether, in several bands of rows, nearly nothing changes downwards where much does across."""
    across = np.abs(np.diff(green_HW, axis=1))[:-1] >= 4
    still = np.abs(np.diff(green_HW, axis=0))[:, :-1] <= 2
    run = 0
    for top in range(0, len(across) - BAND + 1, BAND):
        edges = across[top : top + BAND]
        count = edges.sum()
        drawn = count >= EDGES and (still[top : top + BAND] & edges).sum() >= SMEARED_EDGES * count
        run = run + 1 if drawn else 0
        if run == SMEARED_BANDS:
            return True
    return False
