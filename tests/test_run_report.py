"""Pages and comparisons of made runs: what stands in them, that they stand alone, and that they are well-formed."""

import html.parser
import json
import re

import numpy as np
import pytest
from test_doctor import healthy, record

from jaxlip.cli import compare as compare_command
from jaxlip.cli import doctor, report
from jaxlip.cli.main import guarded
from jaxlip.config import Target, to_json
from jaxlip.engine.run import RunFolder
from jaxlip.metrics.classification import classification_scores
from jaxlip.metrics.worst import reliability, worst_sentences, worst_words
from jaxlip.report.compare import compare
from jaxlip.report.compare_page import to_html as compared_html
from jaxlip.report.compare_page import to_text
from jaxlip.report.html import STYLE
from jaxlip.report.record import Record, read_record
from jaxlip.report.run_page import to_html, write_report

CLASSES = ("bin", "blue", "red", "set")
TARGETS = (
    Target(metric="accuracy", minimum=0.25, target=0.3, stretch=0.99),
    Target(metric="gap/accuracy", minimum=0.1, target=0.01, lower=True),
    Target(metric="wer", minimum=0.1, lower=True),
)


def figures_of(skill: float, *, seed: int = 0, clips: int = 60) -> dict:
    """What scores_test.json would hold of a classifier that gives the truth this many nats more than chance."""
    rng = np.random.default_rng(7)
    truth_N, clips_N = rng.integers(0, 4, 3 * clips), np.repeat(np.arange(clips), 3)
    logits_NK = rng.normal(size=(len(truth_N), 4)) + skill * np.eye(4)[truth_N]
    logits_NK += np.random.default_rng(seed).normal(scale=0.3, size=logits_NK.shape)
    names = [f"clip{clip}#{n}" for n, clip in enumerate(clips_N)]
    scores = classification_scores(logits_NK, truth_N, clips_N, truth_N, CLASSES)
    assert scores.confusion_KK is not None
    lips = {"frames": [{"frame": 3, "kind": "said", "points": [[0, 0]] * 40}, {"frame": 4, "kind": "", "points": []}]}
    return {
        "step": 10,
        "count": scores.count,
        "parameters": {"trainable": 858_212, "buffers": 10},
        "scores": {
            name: {"value": s.value, "low": s.low, "high": s.high, "floor": s.floor}
            for name, s in scores.scores.items()
        },
        "draws": {
            name: {"groups": s.draws.groups, "values": s.draws.values_R.tolist()}
            for name, s in scores.scores.items()
            if s.draws
        },
        "tables": {**scores.tables, "calibration": reliability(logits_NK, truth_N)},
        "classes": list(CLASSES),
        "confusion": [[t, g, int(scores.confusion_KK[t, g])] for t in range(4) for g in range(4)],
        "worst": [
            {"example": m.example, "truth": m.truth, "answer": m.answer, "note": m.note, "lips": lips}
            for m in worst_words(logits_NK, truth_N, names, CLASSES)
        ],
    }


def scored(skill: float = 2.0, *, name: str = "made", seed: int = 0, **options) -> Record:
    run = record(healthy(), scores=figures_of(skill, seed=seed), train__epochs=40, train__seed=seed, **options)
    run.config["targets"] = to_json(TARGETS)
    return Record(name=name, config=run.config, data=run.data, rows=run.rows, scores=run.scores, seconds=90.0)


class Reader(html.parser.HTMLParser):
    """Every element is closed, headings go down one level at a time, pictures have names, nothing is fetched."""

    VOID = ("meta", "img", "br", "rect", "line", "path", "polyline")

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.headings: list[int] = []
        self.unnamed: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        named = given.get("aria-label") or given.get("alt") or given.get("aria-hidden") == "true"
        if tag in ("svg", "img") and not named:
            self.unnamed.append(str(attrs))
        self.links += [v or "" for key, v in attrs if key in ("href", "src") and not (v or "").startswith("data:")]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
            self.open.pop()


def check_page(text: str) -> None:
    reader = Reader()
    reader.feed(text)
    assert not reader.open and not reader.unnamed and not reader.links
    assert reader.headings[0] == 1 and reader.headings.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(reader.headings, reader.headings[1:], strict=False))
    assert "<script" not in text and "http" not in text.replace("http-equiv", "")


def test_a_report_says_its_verdict_first_and_stands_alone():
    run = scored()
    text = to_html(run)
    check_page(text)
    value = run.scores["test"]["scores"]["accuracy"]["value"]
    assert f"accuracy {value:.4f}" in text and "clearly better than its floor" in text
    assert (
        text.index('class="verdict"') < text.index("Success criteria") < text.index("Findings") < text.index("Curves")
    )
    for part in (
        "858,212",
        "✓ reached",
        "✗ missed",
        "not measured",
        "Worst mistakes",
        "optim.lr",
        "Doctor has nothing",
    ):
        assert part in text, part
    assert text.count('class="strip"') == len(run.scores["test"]["worst"])


def test_reports_of_runs_that_have_little_or_failed():
    check_page(to_html(record([])))
    assert "Not scored yet; validation accuracy is" in to_html(record(healthy(), train__epochs=40))
    failed = record(healthy()[:3], failure="loss is not finite at <step> 7")
    text = to_html(failed)
    check_page(text)
    assert "Training failed: loss is not finite at &lt;step&gt; 7" in text and "rule nan_onset" in text


def test_tables_have_the_worst_first_whichever_way_that_is():
    run = scored()
    groups = [{"group": g, "examples": 9, "mse": mse, "floor": 2.0} for g, mse in (("k4m2", 0.1), ("k4m5", 1.4))]
    run.scores["test"]["tables"] = {"groups": groups, "words": run.scores["test"]["tables"]["words"]}
    text = to_html(run)
    assert text.index("k4m5") < text.index("k4m2") and "Groups, worst first" in text
    recalls = sorted((row["recall"], row["word"]) for row in run.scores["test"]["tables"]["words"])
    table = text[text.index("Words, worst first") :]
    assert table.index(f"<td>{recalls[0][1]}</td>") < table.index(f"<td>{recalls[-1][1]}</td>")


def test_colours_can_be_told_from_what_is_behind_them():
    """Contrast by WCAG 2: 4.5 for text, 3 for lines, in both themes."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = STYLE[: STYLE.index("@media")], STYLE[STYLE.index("@media") : STYLE.index("box-sizing")]
    for theme in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        for name, colour in colours.items():
            least = 4.5 if name in ("ink", "soft", "good", "warn", "bad") else 3.0 if name[0] in "sb" else 0.0
            for surface in ("page", "card", "tint"):
                high, low = sorted((luminance(colour), luminance(colours[surface])), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= least, (name, surface, (high + 0.05) / (low + 0.05))


def test_what_preflight_said_is_in_the_report():
    run = scored()
    checks = [
        {"name": "use/mask", "verdict": "warn", "saw": "moves the output by 0", "advice": "wire it"},
        {"name": "labels/round trip", "verdict": "pass", "saw": "4 words", "advice": ""},
    ]
    text = to_html(Record(name="r", config=run.config, rows=run.rows, checks=checks))
    assert "use/mask: moves the output by 0; wire it" in text.lower() and "4 words" not in text


def test_comparison_answers_whether_b_is_better():
    a, b = scored(1.0, name="a"), scored(2.5, name="b", optim__lr=1e-4, task__model__hidden=64)
    found = compare([a, b], "test")
    difference = found.differences["accuracy"][1]
    assert difference is not None and difference.clear and difference.probability > 0.99
    assert found.settings == {"task.model.hidden": [192, 64], "optim.lr": [7.5e-4, 1e-4]}
    text = to_text(found)
    assert re.search(r"accuracy +b .* better$", text, re.MULTILINE)
    assert "[x] minimum at least 0.25" in text and "[ ] stretch at least 0.99" in text and "not measured" in text
    page = compared_html(found, [a, b])
    check_page(page)
    assert page.count("<polyline") >= 2 * 4
    same = compare([a, scored(1.0, name="again")], "test").differences["accuracy"][1]
    assert same is not None and not same.clear and same.probability == 0.5


def test_runs_of_other_clips_are_not_paired_and_unscored_ones_are_named():
    other = scored(1.0, name="other")
    other.scores["test"] = figures_of(1.0, clips=40)
    found = compare([scored(1.0, name="a"), other, record(healthy())], "test")
    assert found.differences["accuracy"] == [None, None, None]
    assert found.findings[0].kind == "not_scored" and found.findings[0].names == ("made",)
    assert found.runs == ["a", "other", "made"]


def test_noise_between_seeds_larger_than_the_difference_claimed():
    seeds = [scored(1.0, name=f"a{seed}", seed=seed) for seed in range(3)]
    close = [scored(1.02, name=f"b{seed}", seed=seed + 5, optim__lr=1e-4) for seed in range(2)]
    noise = [f for f in compare([*seeds, *close], "test").findings if f.kind == "seed_noise"]
    assert any(finding.text.startswith("accuracy: b0 differs from a0") for finding in noise)
    far = [scored(4.0, name=f"c{seed}", seed=seed, optim__lr=1e-4) for seed in range(2)]
    assert not [f for f in compare([*seeds, *far], "test").findings if f.text.startswith("accuracy")]
    assert not compare([seeds[0], close[0]], "test").findings


def saved(folder, run: Record) -> RunFolder:
    path = folder / run.name
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"experiment": run.config, "data": run.data}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in run.rows))
    for split, figures in run.scores.items():
        (path / f"scores_{split}.json").write_text(json.dumps(figures))
    return RunFolder(path)


def test_commands_on_folders(tmp_path, capsys):
    for name, skill in (("a", 1.0), ("b", 2.5)):
        saved(tmp_path, scored(skill, name=name))
    where = ["--runs", str(tmp_path)]
    out = [str(tmp_path / "c.json"), str(tmp_path / "c.html")]
    assert guarded(compare_command.run, ["a", "b", *where, "--json", out[0], "--html", out[1]]) == 0
    said = capsys.readouterr().out
    assert "paired bootstrap" in said and json.loads((tmp_path / "c.json").read_text())["runs"] == ["a", "b"]
    check_page((tmp_path / "c.html").read_text())
    assert guarded(report.run, ["a", *where]) == 0
    assert (tmp_path / "a/report.html").is_file() and not list((tmp_path / "a").glob("*.part"))
    assert guarded(doctor.run, ["a", "b", *where]) == 0
    assert "target_missed" not in capsys.readouterr().out.partition("b:")[0]
    assert guarded(doctor.run, ["a", *where, "--json"]) == 0
    assert str(tmp_path / "a") in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (doctor.run, ["nobody"], "there is no run 'nobody'"),
        (compare_command.run, ["a"], "name two runs or more"),
        (compare_command.run, ["a", "a", "--json", "no/such/file.json"], "cannot be written"),
        (report.run, [], "arguments are required: RUN"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, command, arguments, says):
    saved(tmp_path, scored(name="a"))
    assert guarded(command, [*arguments, "--runs", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_damaged_files_are_one_line(tmp_path):
    folder = saved(tmp_path, scored(name="a"))
    folder.scores("test").write_text("{")
    with pytest.raises(Exception, match="scores_test.json cannot be read"):
        read_record(folder)
    folder.scores("test").unlink()
    assert write_report(folder).is_file()


def test_worst_sentences_are_those_with_the_most_wrong_words():
    said = ["bin blue at a", "set red", "lay green by b"]
    worst = worst_sentences(said, ["bin blue at a", "bin blue now", "lay green by c"], ["x", "y", "z"])
    assert [(m.example, m.note) for m in worst] == [("y", "3 wrong of 2 words"), ("z", "1 wrong of 4 words")]
