"""Vectors of texts on disk, by the content of the text: one array file, appended to, read once.

A folder holds `vectors.f16`, rows of one width, and `texts.sha256`, the digest of the text of each row. A row counts
once its digest is written, which is after the row: whatever a kill leaves behind is written over.
"""

import fcntl
import hashlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from jaxlip.errors import UserError

BLOCK = 1024
"""Texts between two appends."""
DIGEST = 65
"""Bytes of a line of digests."""


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class EmbeddingCache:
    """The vectors of one encoder."""

    def __init__(self, folder: pathlib.Path, width: int):
        self.vectors, self.digests, self.width = folder / "vectors.f16", folder / "texts.sha256", width
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the cache {folder} cannot be made: {error.strerror}; choose --data.cache DIR.") from None

    def lookup(self, texts: Sequence[str], encode: Callable[[list[str]], np.ndarray]) -> Float[np.ndarray, "N D"]:
        """f32 [N, D]; `encode` is asked for those that are not there yet, each once, and they are kept."""
        digests = [text_digest(text) for text in texts]
        with self.digests.open("a+b") as lock:
            # Two processes that start together must not encode everything twice, nor append in each other's rows.
            fcntl.flock(lock, fcntl.LOCK_EX)
            row_of = {digest: row for row, digest in enumerate(self._known())}
            missing = {d: text for d, text in zip(digests, texts, strict=True) if d not in row_of}
            # Of like length together: a batch is as long as its longest text.
            order = sorted(missing, key=lambda d: len(missing[d]))
            for start in range(0, len(order), BLOCK):
                block = order[start : start + BLOCK]
                self._append(len(row_of), block, encode([missing[d] for d in block]))
                row_of.update({digest: len(row_of) + n for n, digest in enumerate(block)})
            stored_MD = np.fromfile(self.vectors, np.float16).reshape(-1, self.width) if row_of else None
        if stored_MD is None:
            return np.zeros((0, self.width), np.float32)
        return stored_MD[[row_of[digest] for digest in digests]].astype(np.float32)

    def _known(self) -> list[str]:
        whole = self.vectors.stat().st_size // (2 * self.width) if self.vectors.exists() else 0
        lines = self.digests.read_bytes()
        count = min(len(lines) // DIGEST, whole)
        return [lines[n * DIGEST : (n + 1) * DIGEST - 1].decode() for n in range(count)]

    def _append(self, rows: int, digests: list[str], vectors_MD: np.ndarray) -> None:
        if vectors_MD.shape != (len(digests), self.width):
            raise ValueError(f"vectors of shape {vectors_MD.shape} for {len(digests)} texts of width {self.width}")
        for path, end, content in (
            (self.vectors, rows * 2 * self.width, vectors_MD.astype(np.float16).tobytes()),
            (self.digests, rows * DIGEST, "".join(f"{digest}\n" for digest in digests).encode()),
        ):
            path.touch()
            with path.open("r+b") as file:
                file.truncate(end)
                file.seek(end)
                file.write(content)
