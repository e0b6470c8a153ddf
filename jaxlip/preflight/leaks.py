"""Whether the held-out splits are held out: no example, clip or copy on both sides, and no speaker unnoticed."""

import collections
import hashlib
import itertools
from collections.abc import Iterator

import numpy as np

from jaxlip.data.batches import Split
from jaxlip.data.face import FaceData
from jaxlip.data.near_duplicates import near_duplicates, signature
from jaxlip.data.texts import TextData
from jaxlip.face.presets import LIPS_INNER, LIPS_OUTER
from jaxlip.preflight.check import Check, failed, passed, some, warned
from jaxlip.preflight.inputs import ROWS
from jaxlip.preflight.probe import Probe

COMPARED = 4096
"""Examples of a split that are compared with those of the others."""
FEW_REPEATED = 0.03
"""Part of a split's texts that may be in another one too: "No." is said twice."""
COPY = 0.1
"""Distance of lips below which an example is a copy: a video extracted anew is .01 from itself, the same word said
twice by one GRID speaker .16 at the least."""


def check_leaks(probe: Probe) -> Iterator[Check]:
    yield _same_names(probe)
    yield _same_content(probe)
    if any(part.speakers for part in probe.corpus.splits.values()):
        yield _speakers(probe)
    if isinstance(probe.experiment.data, FaceData) and hasattr(probe.batch, "landmarks_BTVC"):
        yield _near_copies(probe)


def _same_names(probe: Probe) -> Check:
    """Examples are named clip#number: a clip whose words are in two splits is in both."""
    clips = {
        split: {name.partition("#")[0] for names in part.names for name in names}
        for split, part in probe.corpus.splits.items()
    }
    shared = sorted(set.union(*(a & b for a, b in itertools.combinations(clips.values(), 2))))
    if shared:
        saw = f"{len(shared)} clips are in several splits: {some(shared)}"
        return failed("leaks.clips", saw, "scores would be of clips that were trained on: split by clip")
    return passed("leaks.clips", f"no clip of {sum(map(len, clips.values()))} is in two splits")


def _speakers(probe: Probe) -> Check:
    """Scores are of speakers who are trained on, or of new ones, or nobody knows of whom."""
    seen = {
        split: collections.Counter(who for bucket in part.speakers for who in bucket if who)
        for split, part in probe.corpus.splits.items()
    }
    data, trained = probe.experiment.data, seen.pop("train")
    apart = isinstance(data, TextData) and (data.held_out == "users" or data.folds > 0)
    mixed, shares = [], []
    for split, counts in seen.items():
        if not counts:
            continue
        known = [who for who in counts if who in trained]
        share = sum(counts[who] for who in known) / counts.total()
        shares.append(f"{share:.0%} of {split}")
        if known and (apart or share < 1):
            mixed += [f"{who} ({split})" for who in known]
    if not shares:
        return passed("leaks.speakers", "it is not known who is in the examples that are held out")
    saw = f"{len(trained)} speakers or users are trained on; of them are {', '.join(shares)}"
    if not mixed or (isinstance(data, TextData) and not apart):
        return passed("leaks.speakers", saw)
    if apart:
        return failed("leaks.speakers", f"{saw}: {some(mixed)}", "these splits promise new users: split by user")
    advice = "scores mix known and new speakers: split by speaker, or have everybody in all splits"
    return warned("leaks.speakers", f"{saw}: {some(mixed)}", advice)


def _same_content(probe: Probe) -> Check:
    floats = tuple(n for n in probe.inputs if np.issubdtype(np.asarray(getattr(probe.batch, n)).dtype, np.floating))
    where = collections.defaultdict(list)
    for split, part in probe.corpus.splits.items():
        for name, arrays in _examples(part, floats):
            digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).digest()
            where[digest].append((split, name))
    looked_at = collections.Counter(split for rows in where.values() for split, _ in rows)
    twice = [rows for rows in where.values() if len({split for split, _ in rows}) > 1]
    if not twice:
        return passed("leaks.content", f"no two of {looked_at.total()} examples in different splits are equal")
    pairs = [" = ".join(f"{name} ({split})" for split, name in dict(rows).items()) for rows in twice]
    saw = f"{len(twice)} contents are in several splits, value for value: {some(pairs)}"
    repeated = collections.Counter(split for rows in twice for split, _ in rows)
    share = max(repeated[split] / looked_at[split] for split in repeated if split != "train")
    if isinstance(probe.experiment.data, TextData) and share <= FEW_REPEATED:
        return warned("leaks.content", saw, "short sentences come again of themselves; if they are copies, split first")
    return failed("leaks.content", saw, "copied or augmented before the split: split first")


def _examples(split: Split, names: tuple[str, ...]) -> Iterator[tuple[str, list[np.ndarray]]]:
    for bucket, clips in enumerate(split.names):
        rows = np.arange(0, len(clips), max(1, -(-len(split) // COMPARED)))
        for start in range(0, len(rows), ROWS):
            batch = split.take(bucket, rows[start : start + ROWS])
            arrays = [np.asarray(getattr(batch, name)) for name in names]
            for b, row in enumerate(rows[start : start + ROWS]):
                yield clips[row], [array[b] for array in arrays]


def _near_copies(probe: Probe) -> Check:
    ids = probe.corpus.spec.input.ids  # type: ignore[attr-defined]
    lips = [v for v, id_ in enumerate(ids) if id_ in {*LIPS_OUTER, *LIPS_INNER}]
    names, splits, signatures = [], [], []
    for split, part in probe.corpus.splits.items():
        for name, (landmarks_TVC, frames_T) in _examples(part, ("landmarks_BTVC", "frames_BT")):
            if frames_T.any():
                names.append(name)
                splits.append(split)
                signatures.append(signature(landmarks_TVC[frames_T][:, lips]))
    pairs = [p for p in near_duplicates(names, np.stack(signatures), splits) if p.distance < COPY]
    if pairs:
        shown = [f"{pair.first} = {pair.second}, distance {pair.distance:.3f}" for pair in pairs]
        saw = f"{len(pairs)} pairs in different splits move their mouths alike: {some(shown)}"
        return warned("leaks.near_copies", saw, "look at them with `jaxlip inspect`; copies belong in one split")
    return passed("leaks.near_copies", "no two mouths in different splits move alike")
