"""The 543 points of MediaPipe Holistic, the parts they belong to, and the 6,516 numbers of a frame. Imports no jax.

The one place that knows where anything lies: extraction, sources, features and models all ask here. The order is that
of the extractor: pose, face, left hand, right hand.
"""

import dataclasses

COORDINATES = 3
BLOCKS = ("position", "velocity", "acceleration", "shape")
"""What a frame's 6,516 numbers are, 1,629 each: see `jaxlip.holistic.features.holistic6516`."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A run of points that are found together or not at all.

    `origin`, `across`, `up` and `unit` are points of the part, counted from its first: a part's own frame has its
    origin in the mean of `origin`, its first axis along `across`, its second towards `up`, and is as long as the mean
    of the distances `unit`.
    """

    name: str
    start: int
    size: int
    origin: tuple[int, ...]
    across: tuple[int, int]
    up: int
    unit: tuple[tuple[int, int], ...]

    @property
    def points(self) -> slice:
        """Where the part is among the 543 points."""
        return slice(self.start, self.start + self.size)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(range(self.start, self.start + self.size))

    @property
    def width(self) -> int:
        """Numbers of the part in one block."""
        return self.size * COORDINATES

    def columns(self, block: str) -> slice:
        """Where a block of the part is among the 6,516 numbers. Raises ValueError for an unknown block."""
        first = BLOCKS.index(block) * BLOCK_WIDTH + self.start * COORDINATES
        return slice(first, first + self.width)


def _hand(name: str, start: int) -> Part:
    # From the wrist; across the knuckles, from the little finger's to the index finger's; towards the middle finger's.
    palm = ((0, 5), (0, 9), (0, 13), (0, 17))
    return Part(name, start, 21, origin=(0,), across=(17, 5), up=9, unit=palm)


# From between the shoulders, along them, towards the nose; from between the outer eye corners, along them, to the chin.
POSE = Part("pose", 0, 33, origin=(11, 12), across=(12, 11), up=0, unit=((11, 12),))
FACE = Part("face", 33, 468, origin=(33, 263), across=(33, 263), up=152, unit=((33, 263),))
LEFT_HAND = _hand("left_hand", 501)
RIGHT_HAND = _hand("right_hand", 522)
PARTS = (POSE, FACE, LEFT_HAND, RIGHT_HAND)
HANDS = (LEFT_HAND, RIGHT_HAND)

POINTS = sum(part.size for part in PARTS)
BLOCK_WIDTH = POINTS * COORDINATES
WIDTH = len(BLOCKS) * BLOCK_WIDTH
IDS = tuple(range(POINTS))
HAND_IDS = LEFT_HAND.ids + RIGHT_HAND.ids


def block(name: str) -> slice:
    """Where a block of all parts is among the 6,516 numbers. Raises ValueError for an unknown one."""
    first = BLOCKS.index(name) * BLOCK_WIDTH
    return slice(first, first + BLOCK_WIDTH)


TEMPORAL = slice(block("velocity").start, WIDTH)
"""The blocks after the first: 4,887 numbers, the input of the temporal encoder."""


def rows_of(part: Part, ids: tuple[int, ...]) -> tuple[int, ...] | None:
    """Where the part's points are in an array of the points `ids`; None if not all of them are there."""
    place = {point: row for row, point in enumerate(ids)}
    rows = tuple(place[point] for point in part.ids if point in place)
    return rows if len(rows) == part.size else None
