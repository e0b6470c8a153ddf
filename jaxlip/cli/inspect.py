"""What to look at in data before training on them: splits, words, speakers, landmarks, features, mouths, duplicates.

DATA, the first argument, is a folder: a GRID-like root, the landmarks that `jaxlip extract` wrote, or the shards that
`jaxlip prepare` wrote. With --config FILE instead, or as well, the data options of an experiment hold; without either,
the built-in corpus is inspected.
Writes inspect.json, inspect.html and pictures into --out.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from tqdm import tqdm

from jaxlip.cli.options import Parser
from jaxlip.config import Component, load_config, override
from jaxlip.data.class_means import LIPS
from jaxlip.data.face import FaceClip, FaceData
from jaxlip.data.inspection import Inspection, inspect
from jaxlip.data.store import MANIFEST
from jaxlip.errors import UserError
from jaxlip.face.features import stored_ids
from jaxlip.report.finding import Finding, count_of
from jaxlip.report.findings import find_faults
from jaxlip.report.inspection import summarize, to_json, write_files
from jaxlip.report.inspection_page import to_html
from jaxlip.report.mouths import class_sheet, contact_sheet

PRINTED = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspected(Component):
    """What the options of `jaxlip inspect` change."""

    data: FaceData = FaceData()


def run(arguments: Sequence[str]) -> None:
    parser = Parser(
        "jaxlip inspect",
        __doc__,
        add_help=False,
        usage="jaxlip inspect [DATA] --out DIR [--config FILE] [--data.FIELD VALUE ...]",
    )
    parser.add_argument("--config", metavar="FILE", help="config file whose data are inspected")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder for report and pictures")
    helping = {"-h", "--help"} & set(arguments)
    options, rest = parser.parse_known_args([a for a in arguments if a not in helping])
    if helping:
        print(parser.format_help())
    elif options.out is None:
        raise UserError("--out is not set; give the folder for report and pictures: --out DIR.")
    # Before the fields' options, whose values would otherwise be taken for it.
    root = rest.pop(0) if rest and not rest[0].startswith("-") else None
    data = _data(root, options.config, given=any(a.startswith("--data.source") for a in rest))
    data = override(Inspected(data=data), [*rest, *helping], prog="jaxlip inspect").data
    print(f"reading data ({data.source}{f', {data.root}' if data.root else ''})", flush=True)
    with tqdm(unit=" clips", disable=not sys.stderr.isatty(), leave=False) as bar:
        seen = inspect(data, lambda: bar.update())
    findings = find_faults(seen)
    report = summarize(seen, findings)
    sheets = _sheets(seen, findings)
    contents = {"inspect.json": to_json(report)}
    contents["inspect.html"] = to_html(report, findings, {title: png for title, png in sheets.values()})
    paths = write_files(options.out, contents | {name: png for name, (_, png) in sheets.items()})
    print("\n".join(_summary(report, findings)))
    print("\n".join(f"wrote {path}" for path in paths))


def _data(given_root: str | None, config: str | None, *, given: bool) -> FaceData:
    """The data options before those of the command line; `given`: that names the source."""
    data = FaceData()
    if config:
        data = load_config(config).data
        if not isinstance(data, FaceData):
            raise UserError(f"{config} has {type(data).__name__}; jaxlip inspect looks at FaceData.")
    if given_root is None:
        return data
    root = pathlib.Path(given_root)
    if not root.is_dir() and root.suffix != ".csv":
        raise UserError(f"{root} is not a folder, nor the CSV file of a manifest.")
    source = data.source if data.source != "visemes" else _source_of(root)
    if source is None and not given:
        raise UserError(
            f"{root} is no data that jaxlip knows: it has neither the folders `landmarks` and `align` of a GRID-like "
            "corpus nor landmark files (.npz) nor shards. Name its kind with --data.source."
        )
    return dataclasses.replace(data, source=source or "extracted", root=str(root))


def _source_of(root: pathlib.Path) -> str | None:
    """What kind of data a folder holds, by what lies in it; None if nothing is known to."""
    if root.suffix == ".csv":
        return "manifest"
    if (root / MANIFEST).is_file() and (root / "clips").is_dir():
        return "prepared"
    if (root / "landmarks").is_dir() and (root / "align").is_dir():
        return "grid"
    return "extracted" if next(root.rglob("*.npz"), None) else None


def _sheets(seen: Inspection, findings: Sequence[Finding]) -> dict[str, tuple[str, bytes]]:
    """File name -> title and PNG."""
    ids = stored_ids(seen.config.preset)
    rows = [ids.index(point) for point in LIPS]
    sheets: dict[str, tuple[str, bytes]] = {}
    if means := seen.class_means.means():
        sheets["words.png"] = ("Mean mouth of each word", class_sheet(means))
    if seen.worst:
        sheets["clips_worst.png"] = ("Clips with the worst landmarks", _contact(seen.worst, rows))
    for split in seen.by_split():
        name = "".join(c if c.isalnum() else "_" for c in split)
        sheets[f"clips_{name}.png"] = (f"Clips of {split}", _contact(seen.sheets[split], rows))
    return sheets


def _contact(clips: Sequence[FaceClip], rows: Sequence[int]) -> bytes:
    return contact_sheet([(clip, _caption(clip)) for clip in clips], rows)


def _caption(clip: FaceClip) -> str:
    said = " ".join(word.text for word in clip.words)
    return f"{clip.name}   {said if len(said) < 90 else said[:87] + '...'}".rstrip()


def _summary(report, findings: Sequence[Finding]) -> list[str]:
    """Warnings first, then a line a split."""
    loud = [finding for finding in findings if finding.severity != "note"]
    lines = [f"{'WRONG' if finding.severity == 'bad' else 'look'}: {finding.line()}" for finding in loud[:PRINTED]]
    if len(loud) > PRINTED:
        lines.append(f"{len(loud) - PRINTED} more findings are in the report")
    for split, part in report["splits"].items():
        speakers = count_of(part["speakers"], "speaker") if part["speakers"] else "speakers unknown"
        lines.append(
            f"{split:5s} {part['clips']:6,d} clips  {part['seconds'] / 60:7.1f} min  face in {part['detection']:7.2%}  "
            f"{part['examples']:7,d} words, {part['classes']:3,d} classes  {speakers}"
        )
    return lines
