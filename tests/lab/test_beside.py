"""The report of a run as one folder: the page beside the reference, and that nothing in it leads out of it."""

import json

import nbformat
import pytest

from lotto.lab import batch, beside, index, report
from lotto.lab.claims import runs
from lotto.lab.notebooks import Job


def compared(name, here, reference, agrees):
    return {"claim": f"{name} it is better", "what": "barrier: distilled | IMP", "where": "97.2 % sparse", "line": 0.0} | {
        "here": here, "reference": reference, "agrees": agrees
    }  # fmt: skip


ROWS = [
    compared("P1", [1.0, None, None, 2], [1.5, 1.0, 2.0, 10], True),
    compared("P2", [9.0, 8.0, 10.0, 3], [1.5, 1.0, 2.0, 10], False),
    compared("P3", [-1.0, None, None, 2], None, None),
    compared("P4", [None, None, None, 0], None, None),
]


@pytest.fixture
def folder(tmp_path, tiny, monkeypatch):
    """A run's folder with one page and the index, written as a run does."""
    monkeypatch.setenv("LOTTO_DEVICE", "cpu")
    nb = nbformat.v4.new_notebook()
    nb.cells = [nbformat.v4.new_markdown_cell("# A run\n\n[next](02_b.ipynb)")]
    for name in ("01_a", "02_b"):
        nbformat.write(nb, tmp_path / f"{name}.ipynb")
        report.page(tmp_path / f"{name}.ipynb")
        told = {
            "board": [],
            "compared": ROWS if name == "01_a" else [],
            "title": name,
            "seconds": 1.0,
            "core_seconds": 1.0,
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(told))
    batch._index([Job(tmp_path / "01_a.ipynb", {}, tmp_path, "k", "ok")], tiny())
    return tmp_path


def test_the_page_beside_the_reference(folder, tiny):
    text = (folder / "compare.html").read_text()
    assert "1 of 2 comparisons came out as the reference leads one to expect" in text
    assert "Not so: P2 (barrier: distilled | IMP)" in text and "2 more cannot be compared" in text
    assert "9.00 [8.00, 10.00] (n = 3)" in text and "-1.00 (n = 2)" in text
    figure = json.loads(text.split('class="spec">')[1].split("</script>")[0])
    mine, theirs, line = figure["data"]
    assert mine["x"] == [1.0, 9.0, -1.0] and theirs["x"] == [1.5, 1.5] and len(line["x"]) == 4
    assert mine["marker"]["color"][1] == "white" != mine["marker"]["color"][0], "what does not agree is hollow"
    assert mine["error_x"]["array"] == [0, 1.0, 0] and theirs["error_x"]["array"] == [0.5, 0.5]
    differ = {
        r["parameter"]: (r["this run"], r["reference"]) for r in beside.differing(tiny(), runs.known("digits").study)
    }
    assert differ["width"] == ("2", "8") and "first_seed" in differ and "lr" not in differ
    assert '<td class="text">width</td>' in text


def test_the_report_leads_nowhere_out_of_its_folder_and_says_its_size(folder):
    pages = [f for f in report.files(folder, ["01_a", "02_b"]) if f.suffix == ".html"]
    assert {p.name for p in pages} == {"01_a.html", "02_b.html", "index.html", "compare.html"}
    for page in pages:
        for url in report.references(page.read_text()):
            assert (page.parent / url).resolve().is_relative_to(folder) and (page.parent / url).exists(), (
                page.name,
                url,
            )
    assert report.references((folder / "index.html").read_text()).count("compare.html") == 1
    whole = sum(f.stat().st_size for f in report.files(folder, ["01_a", "02_b"])) / 1e6
    assert f"<th>this folder</th><td>{whole:.1f} MB</td>" in (folder / "index.html").read_text()


def test_without_a_reference_there_is_no_such_page(folder, tiny):
    entries = [{"name": "01_a", "status": "ok", "compared": ROWS}]
    assert beside.page(folder, entries, tiny().but(preset="cifar10")) is None and not (folder / index.COMPARE).exists()
    assert beside.page(folder, [{"name": "01_a", "status": "ok"}], tiny()) is None
    assert "None of these comparisons can be set beside" in beside.summary(ROWS[2:3])
