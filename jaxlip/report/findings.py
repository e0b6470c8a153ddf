"""What is wrong or odd in data that were inspected: a line each, worst first, with the names of all concerned."""

import collections
from collections.abc import Callable, Iterable, Iterator

from jaxlip.data.inspection import ClipRow, Inspection
from jaxlip.report.finding import Finding, count_of, worst_first

FEW_EXAMPLES = 5
LOW_DETECTION = 0.9
STILL_PART = 0.05
# GRID's shakiest clip has .0020, the median .0006; the built-in corpus is made with .004.
JITTER = 0.01
SMALL_MOUTH = 20.0
TURNED = 30.0
SHORT_WORD = 2
UNLIKE_RATES = 0.01


def find_faults(inspection: Inspection) -> list[Finding]:
    """Everything, worst first."""
    checks = (_duplicates, _splits, _classes, _speakers, _left_out, _landmarks, _lengths, _features)
    found = [finding for check in checks for finding in check(inspection)]
    found += [Finding(kind="source", severity="note", text=note) for note in inspection.notes]
    return worst_first(found)


def _duplicates(seen: Inspection) -> Iterator[Finding]:
    split_of = {clip.name: clip.split for clip in seen.used}
    if seen.duplicates:
        yield Finding(
            kind="duplicates_across_splits",
            severity="bad",
            text=f"{count_of(len(seen.duplicates), 'pair')} of clips in different splits move their mouths alike; "
            "scores would be of clips that were trained on",
            names=tuple(
                f"{pair.first} ({split_of[pair.first]}) = {pair.second} ({split_of[pair.second]}), "
                f"distance {pair.distance:.3f}"
                for pair in seen.duplicates
            ),
        )
    same = collections.defaultdict(list)
    for clip in seen.used:
        same[clip.split, clip.content].append(clip.name)
    if twice := [" = ".join(names) for names in same.values() if len(names) > 1]:
        text = f"{count_of(len(twice), 'clip')} there more than once in a split, with the very same landmarks"
        yield Finding(kind="duplicates_within_a_split", severity="warn", text=text, names=tuple(twice))


def _splits(seen: Inspection) -> Iterator[Finding]:
    if not seen.vocabulary:
        yield Finding(kind="no_words", severity="note", text="the source has no words: landmarks alone are inspected")
    elif missing := tuple(split for split in ("train", "val", "test") if split not in seen.by_split()):
        needed = missing != ("test",)
        text = f"splits without a clip that can be used{'; training needs train and val' if needed else ''}"
        yield Finding(kind="empty_splits", severity="bad" if needed else "warn", text=text, names=missing)


def _classes(seen: Inspection) -> Iterator[Finding]:
    if not seen.vocabulary:
        return
    train = seen.words.get("train", collections.Counter())
    tested = {word for split in ("val", "test") for word in seen.words.get(split, ())}
    empty = [word for word in seen.vocabulary if not train[word]]
    if unlearnt := tuple(word for word in empty if word in tested):
        text = f"{count_of(len(unlearnt), 'word')} said in val or test and never in training"
        yield Finding(kind="classes_never_trained", severity="bad", text=text, names=unlearnt)
    if nowhere := tuple(word for word in empty if word not in tested):
        text = f"{count_of(len(nowhere), 'word')} of the vocabulary never said at all"
        yield Finding(kind="empty_classes", severity="warn", text=text, names=nowhere)
    if tiny := tuple(f"{word} ({train[word]})" for word in seen.vocabulary if 0 < train[word] < FEW_EXAMPLES):
        text = f"{count_of(len(tiny), 'word')} with fewer than {FEW_EXAMPLES} training examples"
        yield Finding(kind="tiny_classes", severity="warn", text=text, names=tiny)
    for split in ("val", "test"):
        if counts := seen.words.get(split):
            if absent := tuple(word for word in seen.vocabulary if train[word] and not counts[word]):
                text = (
                    f"{count_of(len(absent), 'word')} trained on and never said in {split}: recall cannot be measured"
                )
                yield Finding(kind=f"classes_absent_from_{split}", severity="note", text=text, names=absent)


def _speakers(seen: Inspection) -> Iterator[Finding]:
    splits_of: dict[str, list[str]] = {}
    for split, clips in seen.by_split().items():
        for speaker in sorted({clip.speaker for clip in clips}):
            splits_of.setdefault(speaker, []).append(split)
    if splits_of.pop("", None):
        yield Finding(kind="unknown_speakers", severity="note", text="it is not known who speaks in some clips, or all")
    if shared := {speaker: splits for speaker, splits in splits_of.items() if len(splits) > 1}:
        yield Finding(
            kind="speakers_in_several_splits",
            severity="warn",
            text=f"{count_of(len(shared), 'speaker')} on both sides of a split: scores tell nothing of new speakers",
            names=tuple(f"{speaker} ({', '.join(splits)})" for speaker, splits in shared.items()),
        )


def _left_out(seen: Inspection) -> Iterator[Finding]:
    for reason, names in seen.left_out.items():
        yield Finding(kind="left_out", severity="warn", text=f"left out {len(names):,} ({reason})", names=tuple(names))


def _landmarks(seen: Inspection) -> Iterator[Finding]:
    def about(kind: str, text: str, odd: Callable[[ClipRow], str | None], clips: Iterable[ClipRow] = seen.used):
        if names := tuple(f"{clip.name} ({said})" for clip in clips if (said := odd(clip))):
            count = count_of(len(names), "clip")
            yield Finding(kind=kind, severity="warn", text=f"{count} {text}", names=names)

    def limit(value: float | None, least: float, form: str) -> str | None:
        return form.format(value) if value is not None and value > least else None

    yield from about(
        "not_finite",
        "with landmarks that are not finite in frames that are said to have a face",
        lambda clip: count_of(broken, "frame") if (broken := clip.steadiness.broken) else None,
        seen.clips,
    )
    yield from about(
        "low_detection",
        f"in use with a face in under {LOW_DETECTION:.0%} of the frames",
        lambda clip: f"{clip.detection:.0%}" if clip.detection < LOW_DETECTION else None,
    )
    yield from about(
        "long_gaps",
        f"with gaps of more than {seen.config.max_gap} frames, which are masked (data.max_gap)",
        lambda clip: f"longest {max(clip.steadiness.gaps)}" if clip.masked else None,
    )
    yield from about(
        "frozen",
        f"that stand still in over {STILL_PART:.0%} of the frames, as repeated pictures do",
        lambda clip: limit(clip.steadiness.still / clip.frames, STILL_PART, "{:.0%}"),
    )
    yield from about(
        "jumps",
        "in which the face is suddenly elsewhere",
        lambda clip: f"frame {clip.steadiness.jumps[0]}" if clip.steadiness.jumps else None,
    )
    yield from about(
        "jitter",
        f"whose eyes and nose shake by over {JITTER:.0%} of the eye distance",
        lambda clip: limit(clip.steadiness.jitter, JITTER, "{:.1%}"),
    )
    yield from about(
        "small_mouth",
        f"with a mouth narrower than {SMALL_MOUTH:g} pixels",
        lambda clip: f"{width:.0f}" if 0 < (width := clip.median("mouth_width") or 0.0) < SMALL_MOUTH else None,
    )
    yield from about(
        "turned_head",
        f"with the head turned or nodding by over {TURNED:g} degrees",
        lambda clip: limit(max(abs(clip.median("yaw") or 0.0), abs(clip.median("pitch") or 0.0)), TURNED, "{:.0f}"),
    )
    yield from about(
        "leaves_picture",
        "in which the face reaches over the edge of the picture",
        lambda clip: count_of(outside, "frame") if (outside := clip.steadiness.outside) else None,
    )


def _lengths(seen: Inspection) -> Iterator[Finding]:
    rates = collections.Counter(round(clip.fps, 2) for clip in seen.used)
    if rates and max(rates) > min(rates) * (1 + UNLIKE_RATES):
        text = "frame rates differ: motion features would too (`jaxlip extract --fps`)"
        names = tuple(f"{rate:g} frames/s ({count_of(count, 'clip')})" for rate, count in sorted(rates.items()))
        yield Finding(kind="frame_rates", severity="warn", text=text, names=names)
    longest = max(seen.config.buckets)
    if long := tuple(f"{clip.name} ({clip.frames})" for clip in seen.used if clip.frames > longest):
        text = f"{count_of(len(long), 'clip')} longer than {longest} frames, the longest of data.buckets: "
        text += "no sentence can be read from them"
        yield Finding(kind="too_long", severity="warn", text=text, names=long)
    words = sum(len(clip.words) for clip in seen.used)
    if short := sum(frames <= SHORT_WORD for clip in seen.used for frames in clip.word_frames):
        text = f"{short:,} of {words:,} words last {SHORT_WORD} frames or less"
        yield Finding(kind="short_words", severity="note", text=text)


def _features(seen: Inspection) -> Iterator[Finding]:
    if (check := seen.features) is None:
        return
    # Without words the mask channel has nothing to say.
    if dead := tuple(slot.name for slot in check.slots if slot.dead and (slot.name != "speech" or seen.vocabulary)):
        text = f"{count_of(len(dead), 'feature slot')} never vary within a clip"
        yield Finding(kind="dead_slots", severity="bad", text=text, names=dead)
    if check.still_points:
        text = "landmarks that never move (FaceMesh ids)"
        yield Finding(kind="still_points", severity="bad", text=text, names=tuple(map(str, check.still_points)))
    if check.same_points:
        text = "landmarks that always coincide (FaceMesh ids)"
        names = tuple(f"{a} = {b}" for a, b in check.same_points)
        yield Finding(kind="same_points", severity="bad", text=text, names=names)
    for defined, severity, text in (
        (False, "warn", "feature slots that say the same twice"),
        (True, "note", "feature slots that say the same twice by definition, on all data"),
    ):
        if names := tuple(
            f"{twin.first} = {twin.second} ({twin.correlation:+.5f})" for twin in check.twins if twin.defined == defined
        ):
            kind = "twin_slots_by_definition" if defined else "twin_slots"
            yield Finding(kind=kind, severity=severity, text=text, names=names)
