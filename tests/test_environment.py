"""The pins, the floors, and run_all.sh's way to them."""

import os
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import lotto

CLONE = Path(__file__).resolve().parents[1]


def pip_list():
    return yaml.safe_load((CLONE / "environment.yml").read_text())["dependencies"][-1]["pip"]


def test_conda_brings_python_and_pip_only():
    described = yaml.safe_load((CLONE / "environment.yml").read_text())
    assert described["channels"] == ["conda-forge", "nodefaults"] and described["dependencies"][:2] == [
        "python=3.11",
        "pip",
    ]
    assert len(described["dependencies"]) == 3 and pip_list()[-1] == "-e ."


def test_awk_reads_the_pins_as_yaml_does():
    function = next(line for line in (CLONE / "run_all.sh").read_text().splitlines() if line.startswith("pins()"))
    out = subprocess.run(
        ["bash", "-c", f'here="{CLONE}"; {function}; pins'], capture_output=True, text=True, check=True
    ).stdout
    assert out.split("\n")[:-1] == pip_list()


def test_every_pin_satisfies_its_floor_and_every_floor_has_a_pin():
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    floors = [Requirement(r) for r in project["dependencies"] + sum(project["optional-dependencies"].values(), [])]
    pins = dict(p.split("==") for p in pip_list() if "==" in p)
    assert {f.name for f in floors} == set(pins)
    assert all(f.specifier.contains(pins[f.name]) for f in floors)


def test_the_design_cards_top_level():
    out = subprocess.run(["git", "ls-files"], cwd=CLONE, capture_output=True, text=True)
    if out.returncode:
        pytest.skip("not a git clone")
    top = {line.split("/")[0] for line in out.stdout.split()}
    asked = {"notebooks", "lotto", "environment.yml", "run_all.sh", "tests", "README.md"}
    assert asked <= top <= asked | {"pyproject.toml", ".ci", ".gitignore", "LICENSE"}


def call(folder, *args, path, **env):
    return subprocess.run(
        ["bash", str(folder / "run_all.sh"), *args],
        cwd="/",
        capture_output=True,
        text=True,
        env={"PATH": path, "HOME": str(folder), **env},
    )


@pytest.fixture
def bare(tmp_path):
    """run_all.sh and the pins alone, in a path with spaces, and a folder for pretended programs."""
    folder, programs = tmp_path / "a clone", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name in ("run_all.sh", "environment.yml"):
        shutil.copy(CLONE / name, folder / name)
    for name in ("bash", "awk", "dirname", "cat", "mkdir", "rm", "sed", "env", "sleep", "tr"):
        (programs / name).symlink_to(shutil.which(name))
    return folder, programs


def program(programs, name, text):
    (programs / name).unlink(missing_ok=True)  # a link to the machine's own program, which must not be written through
    (programs / name).write_text(f"#!/bin/bash\n{text}\n")
    (programs / name).chmod(0o755)


def test_usage_and_environment_errors(bare):
    folder, programs = bare
    assert call(folder, "--env", "docker", path=str(programs)).returncode == 2
    assert call(folder, "--env", path=str(programs)).returncode == 2
    none = call(folder, path=str(programs))
    assert none.returncode == 3 and "no Python >= 3.11" in none.stderr
    assert call(folder, "--env", "current", path=str(programs)).returncode == 3
    assert "no micromamba, mamba or conda" in call(folder, "--env", "conda", path=str(programs)).stderr


def test_a_conda_whose_channel_is_not_reached_falls_back_to_venv(bare):
    folder, programs = bare
    program(programs, "micromamba", 'echo "$@" >> "$HOME/asked"; exit 1')
    out = call(folder, path=str(programs))
    asked = (folder / "asked").read_text()
    assert "create -y -n lotto -f" in asked and "is its channel reached?" in out.stderr
    assert "no Python >= 3.11" in out.stderr and out.returncode == 3  # went on to .venv
    assert not (folder / ".venv.lock").exists()


def test_a_working_conda_environment_is_used_without_activation(bare):
    folder, programs = bare
    program(programs, "micromamba", 'shift 4; [ "$1" = -c ] && { cat >/dev/null; exit 0; }; printf "%s|" "$@"')
    out = call(folder, "--seeds", "1", "-p", "levels", "[4, 8]", path=str(programs))
    assert out.returncode == 0 and out.stdout == "-m|lotto.run|--seeds|1|-p|levels|[4, 8]|", out.stderr


@pytest.mark.parametrize("args", [["--env", "current", "test", "-x"], ["test", "--env=current", "-x"]])
def test_the_command_may_stand_behind_the_environment(bare, args):
    folder, programs = bare
    program(programs, "python3", '[ "$1" = -c ] && { cat >/dev/null; exit 0; }; printf "%s|" "$@"')
    out = call(folder, *args, path=str(programs))
    assert (out.returncode, out.stdout) == (0, "-m|lotto.run|test|-x|"), out.stderr
    assert call(folder, "--only", "test", "--env", "current", path=str(programs)).stdout == "-m|lotto.run|--only|test|"


@pytest.mark.parametrize(
    ("pid", "naps"), [("{here} 999999999", 0), ("", 10), ("elsewhere 1", 1200), ("{here} 1", 1200)]
)
def test_a_lock_that_was_left_behind_is_waited_for_an_hour_at_most(bare, pid, naps):
    folder, programs = bare
    program(programs, "sleep", 'echo x >> "$HOME/naps"')
    program(programs, "micromamba", "exit 1")
    (folder / ".venv.lock").mkdir()
    (folder / ".venv.lock" / "pid").write_text(pid.format(here=socket.gethostname()))
    out = call(folder, "--env", "conda", path=str(programs))
    assert len((folder / "naps").read_text().split()) == naps if naps else not (folder / "naps").exists()
    assert out.stderr.count("sets up the environment; waiting, an hour at most") == min(naps, 1)
    assert not (folder / ".venv.lock").exists()


def test_a_folder_that_cannot_be_written_is_no_lock_to_wait_for(bare):
    folder, programs = bare
    program(programs, "mkdir", "exit 1")
    program(programs, "sleep", "exit 1")
    program(programs, "micromamba", "exit 1")
    out = call(folder, "--env", "conda", path=str(programs))
    assert out.returncode == 3 and f"{folder}/.venv.lock cannot be made: is {folder} a folder" in out.stderr


def disk(programs, megabytes):
    """A df that finds so much free, and a Python that can make environments, as far as it is asked."""
    program(programs, "df", f'echo "Filesystem 1024-blocks Used Available"; echo "disk 1 1 {megabytes * 1024} 1% /"')
    program(programs, "python3.11", 'echo "$@" >> "$HOME/asked"; [ "$1" = -c ] || [ "$1" = --version ]')


def test_a_disk_without_room_is_found_before_anything_is_installed(bare):
    folder, programs = bare
    disk(programs, 7 * 1024 + 1023)
    out = call(folder, path=str(programs))
    assert out.returncode == 3
    assert f"7 GB are free in {folder}, and .venv needs 8 more" in out.stderr
    assert "-m venv" not in (folder / "asked").read_text()
    assert not (folder / ".venv.lock").exists()


@pytest.mark.parametrize("found", ["room", "no df", "most is there"])
def test_a_disk_with_room_or_unknown_is_used(bare, found):
    folder, programs = bare
    disk(programs, (3 if found == "most is there" else 8) * 1024)
    if found == "no df":
        (programs / "df").unlink()
    if found == "most is there":
        (folder / ".venv").mkdir()
        program(programs, "du", f'echo "{5 * 1024**2} $2"')
    call(folder, path=str(programs))
    assert "-m venv" in (folder / "asked").read_text()


def test_the_clone_in_which_one_stands_is_no_installation(tmp_path):
    """`python -c` looks in the folder of the call first: another clone's environment would pass for this one's."""
    shutil.copytree(CLONE / "lotto", tmp_path / "lotto", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_all.sh", "environment.yml"):
        shutil.copy(CLONE / name, tmp_path / name)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    call = [str(tmp_path / "run_all.sh"), "--env", "current", "--help"]
    out = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert out.returncode == 3 and "the lotto installed there is another clone" in out.stderr, out.stderr


@pytest.mark.slow
def test_help_from_anywhere():
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    out = subprocess.run(
        [str(CLONE / "run_all.sh"), "--env", "current", "--help"],  # any other would install what these tests run in
        cwd="/",
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    if out.returncode == 3:
        pytest.skip(f"these tests run in another environment: {out.stderr.strip()}")
    assert out.returncode == 0, out.stderr
    for option in (
        "--preset",
        "--only",
        "--from",
        "-p NAME VALUE",
        "--seeds",
        "--device",
        "--jobs",
        "--out",
        "--force",
        "--keep-going",
    ):
        assert option in out.stdout


def test_every_module_is_had_from_the_package():
    files = {p.stem for p in (CLONE / "lotto").glob("*.py")} - {"__init__"}
    assert files | {"distill", "lab"} == set(lotto._MODULES)
    assert all(getattr(lotto, name) for name in lotto._MODULES)
