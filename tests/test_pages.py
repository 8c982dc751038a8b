"""HTML copies and the index: whole without a network, on a machine without a browser; and, where there is one, as it
shows them."""

import base64
import html.parser
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest

from lotto.lab import index, report

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
REAL = NOTEBOOKS / "01_distillation.ipynb"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
TEXT = r"""# A <small> notebook

Let $\theta_k \in \mathbb R^n$ and $a < b$; then

$$\min_{\mathcal S}\; \Big\| \frac1{|\mathcal T_c|}\sum_{x\in\mathcal T_c} \psi(x) \Big\|^2$$

- a price of 5 dollars, `$$ in code \(`, [a paper](https://arxiv.org/abs/2503.17905), [another](02_b.ipynb), [a file](more/notes.txt)

| a | b |
|---|---|
| 1 | $x^2$ |
"""


class Loaded(html.parser.HTMLParser):
    """What a page loads: the attributes that make a browser ask for something."""

    def __init__(self, text):
        super().__init__()
        self.found, self.links, self.inside, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.found += [given[n] for n in ("src", "srcset", "data", "poster") if given.get(n)]
        if given.get("href"):
            (self.links if tag == "a" else self.found).append(given["href"])
        if tag in ("script", "style", "code", "pre"):
            self.inside.append(tag)
        if "style" in given:
            self.found += re.findall(r"url\(([^)]*)\)", given["style"])

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, text):
        if self.inside[-1:] == ["style"]:
            self.found += re.findall(r"url\(([^)]*)\)|@import", text)
        elif not self.inside:
            self.text += text


def check_offline(file, figures):
    text = file.read_text()
    loaded = Loaded(text)
    assert [x for x in loaded.found if not x.startswith("data:")] == [report.PLOTLY] * (figures > 0)
    assert text.count('class="spec"') == text.count('<div class="figure"') == figures
    assert "$$" not in loaded.text and r"\(" not in loaded.text and not re.search(r"\$[^$\n]+\$", loaded.text), (
        loaded.text
    )
    return loaded


@pytest.fixture
def made(tmp_path):
    """A small notebook with all kinds of output, in a folder with a file that it links to."""
    figure = {
        "application/vnd.plotly.v1+json": {
            "data": [{"type": "scatter", "y": [1, 3], "text": ["</script>", "b"]}],
            "layout": {},
        }
    }
    table = (
        '<div>\n<style scoped>\n .x {}\n</style>\n<table border="1" class="dataframe"><tr><td>7</td></tr></table></div>'
    )
    outputs = [
        nbformat.v4.new_output("display_data", figure),
        nbformat.v4.new_output("display_data", {**figure, "image/png": PIXEL}),
        nbformat.v4.new_output("execute_result", {"text/html": table, "text/plain": "7"}),
        nbformat.v4.new_output("display_data", {"text/markdown": "**bold** $y$"}),
        nbformat.v4.new_output("display_data", {"image/png": PIXEL + "\n", "text/plain": "x"}),
        nbformat.v4.new_output(
            "display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "VBox()"}
        ),
        nbformat.v4.new_output("stream", name="stdout", text="a < b\n"),
        nbformat.v4.new_output("stream", name="stderr", text="\x1b[31mhm\x1b[0m\n"),
        nbformat.v4.new_output("error", ename="E", evalue="x", traceback=["\x1b[31mE\x1b[0m: <x>"]),
    ]
    nb = nbformat.v4.new_notebook()
    nb.cells = [
        nbformat.v4.new_markdown_cell(TEXT),
        nbformat.v4.new_code_cell("seeds: int = 3", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("seeds = 1", metadata={"tags": ["injected-parameters"]}),
        nbformat.v4.new_code_cell("x = '<b>'", outputs=outputs),
        nbformat.v4.new_raw_cell("not shown"),
    ]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "notes.txt").touch()
    nbformat.write(nb, tmp_path / "01_a.ipynb")
    return tmp_path / "01_a.ipynb"


@pytest.fixture
def results(made, tmp_path):
    """A folder as a run leaves it: two pages and the index."""
    out = tmp_path / "results"
    out.mkdir()
    report.page(made, out)
    report.page(REAL, out)
    (out / "03_c.html").write_text("<html>of an earlier run, before it failed</html>")
    row = {"claim": "a < b", "word": "fails", "agrees": "yes", "estimate": "1.5 [1, 2]"}
    done = {"name": "01_a", "status": "ok", "title": "A", "seconds": 61.2, "core_seconds": 1234.5, "board": [row, row]}
    other = {"name": REAL.stem, "status": "up to date"}
    index.index(
        out,
        [done, other, {"name": "03_c", "status": "FAILED"}],
        {"device": "cpu"},
        {"seeds": 3, "levels": [4, 8]},
        [{"arm": "IMP", "error barrier": "1.2"}],
    )
    return out


def test_a_page_asks_nothing_of_the_network(made, tmp_path):
    (tmp_path / "made" / "here").mkdir(parents=True)
    file = report.page(made, tmp_path / "made" / "here")
    loaded, text = check_offline(file, 2), file.read_text()
    assert (
        text.count("<math") == 5
        and "<munder>" in text
        and "𝒮" in text
        and "ℝ" in text
        and "‖" in text
        and 'mathvariant="s' not in text
    )
    assert loaded.links[:1] == ["index.html"] and "https://arxiv.org/abs/2503.17905" in loaded.links
    assert "02_b.html" in loaded.links and "../../more/notes.txt" in loaded.links
    assert text.count('<div class="table"><table') == 2 and "scoped" not in text
    for summary in ("parameters", "parameters of this run", "code", "messages"):
        assert f"<details><summary>{summary}</summary>" in text
    assert "a &lt; b" in text and "<pre>hm\n</pre>" in text and "E: &lt;x&gt;" in text and "u003c/script>" in text
    assert "VBox" not in text and "Controls stand here" in text and "not shown" not in loaded.text
    assert (file.parent / report.PLOTLY).stat().st_size > 1e6 and not (file.parent / "01_a.part").exists()


def test_a_page_without_figures_needs_no_script(tmp_path):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("plain")]), tmp_path / "b.ipynb")
    check_offline(report.page(tmp_path / "b.ipynb"), 0)
    assert report.title(tmp_path / "b.ipynb") == "b" and not (tmp_path / report.PLOTLY).exists()


def test_no_text_of_a_figure_ends_or_opens_a_tag():
    name = "a </script> b <!--<script> c"
    told = report.figure({"application/vnd.plotly.v1+json": {"data": [{"name": name}], "layout": {}}})
    spec = told.split('class="spec">')[1].removesuffix("</script>")
    assert "<" not in spec and json.loads(spec)["data"][0]["name"] == name


def test_pages_that_are_written_at_once_are_whole(tmp_path):
    with ThreadPoolExecutor(8) as several:
        done = [several.submit(report._written, tmp_path / "index.html", f"{i % 10}" * 50_000) for i in range(200)]
    assert all(d.result() for d in done)
    assert len(set((tmp_path / "index.html").read_text())) == 1 and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("book", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda b: b.stem)
def test_the_committed_notebooks_are_whole_offline(book, tmp_path):
    cells = nbformat.read(book, 4).cells
    figures = sum("application/vnd.plotly.v1+json" in o.get("data", {}) for c in cells for o in c.get("outputs", ()))
    formulas = sum(
        len(re.findall(r"\$\$.+?\$\$|\$[^$]+\$", c.source, re.S)) for c in cells if c.cell_type == "markdown"
    )
    loaded = check_offline(report.page(book, tmp_path), figures)
    assert figures and (tmp_path / f"{book.stem}.html").read_text().count("<math") >= formulas
    assert all((tmp_path / x).exists() for x in loaded.links if not re.match(r"#|https?:|index\.html|\d\d_", x))


def test_formulas_that_cannot_be_read_stay_as_they_are(monkeypatch):
    assert report.formula(r"\begin{") == r"<code>\begin{</code>" or "<math" in report.formula(r"\begin{")
    monkeypatch.setattr("latex2mathml.converter.convert", lambda *_, **__: 1 / 0)
    assert report.formula("a<b") == "<code>a&lt;b</code>"


def test_the_index(results):
    text = (results / "index.html").read_text()
    check_offline(results / "index.html", 0)
    assert text.count('<span class="chip bad">fails</span>') == 2 and "a &lt; b" in text and "1.5 [1, 2]" in text
    assert (
        text.count('<a href="01_a.html">') == 3
        and f'<a href="{REAL.stem}.html">' in text
        and 'href="03_c.html"' not in text
    )
    assert '<span class="chip good">up to date</span>' in text and '<span class="chip bad">FAILED</span>' in text
    order = ["<h1>", "handful of distilled images", "Notebooks", "The arms of this run", "A: exploratory", "a &lt; b"]
    assert sorted(order, key=text.index) == order, "what is asked, where to read on, and only then the board"
    assert "2 of 2" in text and "1,234" in text and "[4, 8]" in text and "device" in text


def test_the_index_without_a_board(tmp_path):
    index.index(tmp_path, [{"name": "01_a", "status": "not run"}], {}, {})
    text = (tmp_path / "index.html").read_text()
    assert "What this run says" not in text and '<span class="chip open">not run</span>' in text


BROWSER = next((b for n in ("chromium", "chromium-browser", "google-chrome") if (b := shutil.which(n))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome here")
@pytest.mark.filterwarnings("ignore")
def test_pages_in_a_browser_without_a_network(results, made):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(offline=True, viewport={"width": 1000, "height": 900})
        page, asked, errors = context.new_page(), [], []
        page.set_default_timeout(120_000)  # on a machine that is busy
        page.on("request", lambda r: asked.append(r.url))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
        for name in ("01_a", REAL.stem):
            page.goto((results / f"{name}.html").as_uri())
            count = page.locator(".figure").count()
            page.wait_for_function(f"document.querySelectorAll('.figure .main-svg').length >= {count}")
            for i in range(count):
                assert page.locator(".figure").nth(i).locator(".main-svg").first.bounding_box()["height"] > 50
            for i in range(page.locator("math").count()):
                box = page.locator("math").nth(i).bounding_box()
                assert (
                    page.locator("math").nth(i).evaluate("e => e.namespaceURI").endswith("MathML") and box["width"] > 4
                )
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # nothing sticks out
            assert not page.locator(".cell pre").first.is_visible()
            page.click("#unfold")
            assert page.locator(".cell pre").first.is_visible()
        page.goto((results / "index.html").as_uri())
        assert page.locator(".chip").count() == 5 and page.evaluate(
            "document.documentElement.scrollWidth <= window.innerWidth"
        )
        page.click("a >> nth=0")
        assert page.url.endswith("01_a.html")
        browser.close()
    assert asked and not [url for url in asked if not url.startswith(("file:", "data:"))] and not errors, errors


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome here")
@pytest.mark.filterwarnings("ignore")
def test_a_still_by_a_real_browser(monkeypatch):
    from lotto.lab import stills

    monkeypatch.delenv("LOTTO_STILLS", raising=False)
    monkeypatch.setattr(stills, "_state", {})
    monkeypatch.setattr(stills, "LIMIT", 120.0)  # on a machine that is busy
    assert stills.trouble() is None and stills.still(go.Figure(go.Scatter(y=[1, 2]))).startswith(b"\x89PNG")
    stills._state.pop("camera").close()
