"""The README's code runs as it stands, and its commands exist."""

import re
from pathlib import Path

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_the_ten_lines_run(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README.split("### What of yours works")[0], re.S)
    code = [line for line in block.splitlines() if line.strip() and not line.startswith(("import", "from", "#"))]
    assert len(code) <= 10
    exec(compile(block, "README.md", "exec"), {})
    assert re.search(r"barrier \d+\.\d points", capsys.readouterr().out)


def test_options_named_in_the_readme_exist():

    from lotto import run

    known = set(re.findall(r"--[a-z-]+", run.parser().format_help()))
    for line in re.findall(r"^\./run_all\.sh(?! test| lab).*$", README, re.M):
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (Path(__file__).resolve().parents[1] / target).exists(), target


def test_the_table_of_claims_is_what_the_reference_runs_say():
    from lotto.lab.claims import board

    assert board.readme(README) == README, "run: python -m lotto.run claims"
