"""Stills where there is no browser, and where what is called one is none. What a real browser draws is
tests/test_pages.py's."""

import os
import subprocess
import time

import plotly.graph_objects as go
import pytest

from lotto.lab import stills


@pytest.fixture(autouse=True)
def wanted(monkeypatch):
    """Stills switched on, nothing known yet, and little patience."""
    monkeypatch.delenv("LOTTO_STILLS", raising=False)
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(stills, "_state", {})
    monkeypatch.setattr(stills, "LIMIT", 6.0)
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 20


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A shell script that is given as the browser."""

    def make(text):
        file = tmp_path / "a browser"
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        monkeypatch.setenv("BROWSER_PATH", str(file))
        return str(file)

    return make


def test_no_browser_is_told_once_and_at_once(monkeypatch, capsys):
    monkeypatch.setattr("choreographer.browsers.chromium.Chromium.find_browser", lambda **_: None)
    begun = time.monotonic()
    assert stills.still(go.Figure()) is None
    assert stills.still(go.Figure()) is None
    assert time.monotonic() - begun < 3
    assert capsys.readouterr().err == "no still pictures: no Chromium or Chrome was found (BROWSER_PATH can name one)\n"


def test_a_path_that_is_no_program(tmp_path, monkeypatch, capsys):
    (tmp_path / "text").write_text("no program")
    for path in (tmp_path / "text", tmp_path, tmp_path / "absent"):
        monkeypatch.setattr(stills, "_state", {})
        monkeypatch.setenv("BROWSER_PATH", str(path))
        assert stills.still(go.Figure()) is None
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"BROWSER_PATH = {str(path)!r} is not a program" in said


@pytest.mark.filterwarnings("ignore")  # of what is left behind when a browser dies: choreographer's own
@pytest.mark.parametrize(
    "text", ["exit 1", "echo nonsense >&4; exit 0", "exec cat <&3 >&4"], ids=["dies", "talks and dies", "echoes"]
)
def test_a_program_that_is_no_browser(program, capfd, text):
    path = program(text)
    assert stills.still(go.Figure()) is None
    assert stills.still(go.Figure()) is None
    said = [line for line in capfd.readouterr().err.splitlines() if "still pictures" in line]
    assert len(said) == 1
    assert f"no still pictures: the browser {path}" in said[0]


@pytest.mark.filterwarnings("ignore")
def test_a_browser_that_never_answers_is_given_up_and_ended(program, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stills, "LIMIT", 2.0)
    path = program(f'echo $$ > "{tmp_path}/pid"; sleep 600')
    assert stills.trouble() == f"the browser {path} did not answer within 2 s"
    assert capsys.readouterr().err == ""  # the caller says it
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not os.path.exists(f"/proc/{pid}") or "Z" in open(f"/proc/{pid}/stat").read().split()[2]:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the browser still runs")


@pytest.mark.slow
def test_a_process_that_gave_a_browser_up_ends(program, tmp_path):
    import sys

    program("sleep 600")
    code = (
        "import plotly.graph_objects as go; from lotto.lab import stills; stills.LIMIT = 2; "
        "print(stills.still(go.Figure()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert out.returncode == 0
    assert out.stdout == "None\n"
    assert "did not answer within 2 s" in out.stderr


def test_stills_switched_off_are_silent(monkeypatch, capsys):
    monkeypatch.setenv("LOTTO_STILLS", "0")
    monkeypatch.setenv("BROWSER_PATH", "/nowhere")
    assert stills.still(go.Figure()) is None
    assert stills.trouble() is None
    assert capsys.readouterr().err == ""
