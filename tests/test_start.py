"""What a command does before its first step: little is imported, and what was compiled before is kept."""

import os
import pathlib
import platform
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY

from jaxlip.cli import compiled
from jaxlip.cli.compiled import keep_compiled

CHOICES = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE", "XDG_CACHE_HOME")
SET = ("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user who has chosen nothing; without the JAX of this process, whose cache is the tests' own."""
    for name in (*CHOICES, *SET):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "jax")
    return tmp_path


def test_programs_are_kept_in_the_users_cache(home):
    folder = keep_compiled()
    assert folder is not None and folder.parent == home / ".cache/jaxlip/compiled"
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder)


@pytest.mark.parametrize(
    ("name", "value"), [("JAX_COMPILATION_CACHE_DIR", "/somewhere"), ("JAX_ENABLE_COMPILATION_CACHE", "false")]
)
def test_what_the_user_says_counts(home, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert keep_compiled() is None
    assert not (home / ".cache").exists()


def test_a_home_that_cannot_be_written_to_costs_time_only(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "file"))
    assert keep_compiled() is None


def test_the_oldest_programs_go_first(home, monkeypatch):
    folder = keep_compiled()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setattr(compiled, "LARGEST", 250)
    for age in (1, 2, 3):
        file = folder / f"age{age}"
        file.write_bytes(bytes(100))
        os.utime(file, (time.time() - 100 * age,) * 2)
    assert keep_compiled() == folder
    assert sorted(file.name for file in folder.iterdir()) == ["age1", "age2"]


def test_the_second_start_finds_what_the_first_compiled(tmp_path):
    program = (
        "from jaxlip.cli.compiled import keep_compiled\n"
        "from jaxlip.cli import compiled; compiled.WORTH_KEEPING = 0.0\n"
        "folder = keep_compiled()\n"
        "import jax, jax.numpy as jnp\n"
        "jax.jit(lambda x: jnp.linalg.eigh(x @ x.T)[0])(jnp.ones((8, 8)))\n"
        "print(len(list(folder.iterdir())))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in (*CHOICES, *SET)}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    environment.pop("JAX_COMPILATION_CACHE_MAX_SIZE", None)
    first, second = (
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert int(first.stdout) == int(second.stdout) > 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
@pytest.mark.parametrize(("chosen", "expected"), [({}, "True"), ({"MALLOC_ARENA_MAX": "4"}, "False")])
def test_large_blocks_are_kept_unless_the_user_has_chosen(chosen, expected):
    program = "from jaxlip.cli.allocation import keep_large_blocks; print(keep_large_blocks())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment |= {"PYTHONPATH": str(REPOSITORY), **chosen}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize("statement", ["import jaxlip", "import jaxlip.cli.main", "import jaxlip.config"])
def test_no_jax_is_imported_before_it_is_needed(statement):
    program = f"import sys; {statement}; print([m for m in ('jax', 'flax', 'orbax', 'mediapipe') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(REPOSITORY))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
