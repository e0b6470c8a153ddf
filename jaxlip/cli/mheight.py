"""Every m-height of the codes [I | P] in a .npy file, exactly, and a codeword that shows one of them.

P is [k, n-k], or [B, k, n-k] for many codes of one shape.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from jaxlip.cli.options import Parser
from jaxlip.errors import UserError
from jaxlip.mheight import certificate, heights, ratio


def run(arguments: Sequence[str]) -> None:
    parser = Parser("jaxlip mheight", __doc__)
    parser.add_argument(
        "matrices", type=pathlib.Path, metavar="P.npy", help="matrix, or matrices, as numpy.save writes"
    )
    parser.add_argument("-m", type=int, help="also a codeword whose m-height this is")
    options = parser.parse_args(arguments)
    P_BKR = _read(options.matrices)
    for number, (P_KR, heights_R) in enumerate(zip(P_BKR, heights(P_BKR), strict=True)):
        shown = "  ".join(f"h_{m} {height:.12g}" for m, height in enumerate(heights_R, 1))
        print(f"{number}: {shown}" if len(P_BKR) > 1 else shown)
        if options.m is not None:
            found = certificate(P_KR, options.m)
            print(f"codeword {' '.join(f'{c:.12g}' for c in found.codeword_N)}")
            print(f"its largest over its {options.m + 1}. largest magnitude: {ratio(found.codeword_N, options.m):.12g}")


def _read(path: pathlib.Path) -> np.ndarray:
    try:
        P = np.load(path)
        return np.asarray(P[None] if P.ndim == 2 else P, np.float64)
    except (OSError, ValueError, TypeError, EOFError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as a matrix of numbers: {reason}.") from None
