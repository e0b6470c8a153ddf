"""The README's commands, as written there, on small data."""

import importlib.util
import pathlib
import re
import shlex

import pytest
from trees import phoenix_tree

from jaxlip.cli import evaluate, params, prepare, size, teach, train
from jaxlip.cli.main import guarded
from jaxlip.data.sources.glosses import Glosses

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"^```\w*\n(.*?)^```$", README, re.DOTALL | re.MULTILINE))
EVERY = re.findall(r"^(?:python )?(train\.py|evaluate\.py|jaxlip \w+) (.*)$", BLOCKS, re.MULTILINE)
SPELLING = [(script, text) for script, text in EVERY if re.search("spelling_|letters", text)]
SIGNING = [row for row in EVERY if "sign_" in row[1] and row not in SPELLING]
AFFECT = [(script, text) for script, text in EVERY if "affect" in text and script != "jaxlip params"]
LIPS = [row for row in EVERY if row not in SIGNING + SPELLING + AFFECT]
COMMANDS = [(s, t) for s, t in LIPS if s in ("train.py", "evaluate.py", "jaxlip prepare")]
SMALL = ["--train.epochs", "1", "--task.model.hidden", "8", "--data.preset", "lips40"]
FEW = ["--data.visemes.train", "32", "--data.visemes.val", "32", "--data.visemes.test", "32"]


def test_there_are_commands_for_every_step():
    assert {script for script, _ in COMMANDS} == {"train.py", "evaluate.py", "jaxlip prepare"}
    for line in ("make train", "make test", "python -m pip install -e . -c constraints.txt", "python -m pytest"):
        assert re.search(rf"^{re.escape(line)}\b", BLOCKS, re.MULTILINE), line


@pytest.mark.slow
def test_commands_run_in_order(grid_root, tmp_path, monkeypatch, capsys):
    repository = pathlib.Path(__file__).parents[1]
    (tmp_path / "configs").symlink_to(repository / "configs")
    monkeypatch.chdir(tmp_path)
    for script, text in COMMANDS:
        text = text.replace("GRID", str(grid_root)).replace("SPLITS", str(grid_root / "splits.json"))
        arguments = shlex.split(text)
        if script == "train.py":
            # What preflight and reports say has its own tests.
            arguments += ["--no-preflight", "--no-report", *SMALL, *FEW]
        needs = "apache_beam" if "--beam" in arguments else "tensorflow_datasets"
        if "SHARDS" in text and importlib.util.find_spec(needs) is None:
            continue
        if script == "jaxlip prepare":
            arguments = ["--preset", "lips40", *arguments]
        command = {"train.py": train.run, "evaluate.py": evaluate.run, "jaxlip prepare": prepare.run}[script]
        assert guarded(command, arguments) == 0, capsys.readouterr().err
    assert (tmp_path / "grid-v4.json").is_file()


@pytest.mark.slow
def test_commands_of_affect_run_in_order(tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").symlink_to(pathlib.Path(__file__).parents[1] / "configs")
    monkeypatch.chdir(tmp_path)
    splits = ("train", "train", "dev", "test")
    rows = (f"{n},{splits[n % 4]},{1 + n % 5},{1 + n % 3},3,word {n % 7}" for n in range(60))
    (tmp_path / "EMOBANK").write_text("\n".join(("id,split,V,A,D,text", *rows)))
    commands = {"train.py": train.run, "evaluate.py": evaluate.run}
    for script, text in AFFECT:
        if script not in commands:
            continue
        arguments = shlex.split(text)
        if script == "train.py":
            small = ["--train.epochs", "1", "--data.encoders", "tfidf", "--data.user_series.users", "9"]
            arguments += ["--no-preflight", "--no-report", *small]
        assert guarded(commands[script], arguments) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_commands_of_signing_run_in_order(tmp_path, monkeypatch, capsys):
    repository = pathlib.Path(__file__).parents[1]
    (tmp_path / "configs").symlink_to(repository / "configs")
    monkeypatch.chdir(tmp_path)
    phoenix_tree(tmp_path / "PHOENIX", Glosses(glosses=6, longest=3, train=8, val=4, test=4))
    small = {"sign_ctc": ["--task.model.temporal_hidden", "8"], "sign_best": ["--task.model.hidden", "8"]}
    commands = {"train.py": train.run, "evaluate.py": evaluate.run, "jaxlip teach": teach.run, "jaxlip size": size.run}
    for script, text in SIGNING:
        arguments = shlex.split(text)
        if script == "train.py":
            arguments += ["--no-preflight", "--train.epochs", "1", *small.get(pathlib.Path(arguments[1]).stem, [])]
        assert guarded(commands[script], arguments) == 0, capsys.readouterr().err
    assert (tmp_path / "sign_best.json").is_file() and {script for script, _ in SIGNING} == set(commands)


@pytest.mark.parametrize("path", re.findall(r"`(configs/\w+\.py)`", README))
def test_parameter_counts_in_the_readme(path, capsys, monkeypatch):
    monkeypatch.chdir(pathlib.Path(__file__).parents[1])
    row = next((line for line in README.splitlines() if line.startswith(f"| `{path}` |")), None)
    if row is None:
        return
    assert guarded(params.run, ["--config", path]) == 0
    total = capsys.readouterr().out.splitlines()[-1].split()[1]
    assert f" {total} " in row
