"""README's "Add something": each recipe, done with its very lines in a copy of the package, and tried."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLONE = Path(__file__).resolve().parents[1]
TRIED = {
    "An arm": """
s = tiny(methods=["dense", "centres-gentle"])
assert set(accuracies(s).method) == {"dense", "centres-gentle"}
""",
    "A measure": """
from lotto.lab.stability.tables import distances
assert (distances(tiny(methods=["dense", "distilled"])).apart > 0).all()
""",
    "A claim": """
from lotto.lab.claims import board, runs
from lotto.lab.stability.tables import barriers
s = tiny(methods=["dense", "easy", "subset"])
rows = board.rows({"accuracy": accuracies(s), "barrier": barriers(s)}, s, 10, "06")
assert any(r["claim"].startswith("N1") and "easiest real" in r["here"] for r in rows)
assert not runs.known("digits").current
""",
    "A data set": """
s = tiny(data="stripes", held_out=20, methods=["dense", "distilled"])
assert set(accuracies(s).state) <= {"trained", "failed"}
""",
    "A network": """
s = tiny(net="mlp", width=16, methods=["dense", "distilled"])
assert set(accuracies(s).state) <= {"trained", "failed"}
""",
}


def recipes():
    """Name -> its (file, where, lines)."""
    text = (CLONE / "README.md").read_text().split("### Add something")[1].split("\n## ")[0]
    found, name = {}, None
    for part in re.split(r"^\*\*", text, flags=re.M)[1:]:
        name = part.partition("**")[0]
        found[name] = re.findall(r"<!-- recipe: (\S+) (.*?) -->\n```python\n(.*?)```", part, flags=re.S)
    return found


def test_every_recipe_is_tried():
    assert recipes().keys() == TRIED.keys()
    assert all(recipes().values())


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_a_recipe_works_as_it_stands_in_the_readme(name, tmp_path, tiny_parameters):
    for folder in ("lotto", "notebooks/reference"):
        shutil.copytree(CLONE / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, where, lines in recipes()[name]:
        path = tmp_path / file
        text = path.read_text()
        if where == "at the end":
            text = f"{text}\n\n{lines}"
        else:
            anchor = where.removeprefix("after ") + "\n"
            assert text.count(anchor) == 1
            text = text.replace(anchor, anchor + lines)
        path.write_text(text)
    tried = f"""
import lotto
from lotto.lab.tickets.tables import accuracies
assert lotto.__file__.startswith({str(tmp_path)!r})
def tiny(**more):
    return lotto.study("digits", **{{**{tiny_parameters!r}, **more}}).check()
{TRIED[name]}"""
    env = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "LOTTO_STORE": str(tmp_path / "store"),
        "LOTTO_HEADLESS": "1",
        "LOTTO_JOBS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", tried], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
