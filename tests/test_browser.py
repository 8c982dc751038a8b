"""Each notebook in JupyterLab in a real browser: all cells run, an explorer's slider moved by keyboard, the picture
changes.

`LOTTO_SCREENSHOTS=DIR` keeps a picture of each explorer, to be looked at.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next((b for n in ("chromium", "chromium-browser", "google-chrome") if (b := shutil.which(n))), None)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome here"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # papermill's and the server's own
]
BOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_parameters):
    """A JupyterLab over a folder with the notebooks at tiny parameters; its address."""
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    from lotto.lab.notebooks import known_parameters

    root = tmp_path_factory.mktemp("lab")
    for book in BOOKS:
        nb = load_notebook_node(str(book))
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        known = known_parameters(book)
        tiny = {n: v for n, v in tiny_parameters.items() if n in known} | {
            "more": {n: v for n, v in tiny_parameters.items() if n not in known}
        }
        nbformat.write(parameterize_notebook(nb, tiny, kernel_name="python3", language="python"), root / book.name)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {n: v for n, v in os.environ.items() if n != "LOTTO_HEADLESS"} | {
        "JUPYTER_CONFIG_DIR": str(root / ".config"),
        "LOTTO_DEVICE": "cpu",
    }
    # no token: this server lives for one test, on the loopback
    options = [
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--ServerApp.password=",
        "--allow-root",
    ]
    options += [f"--ServerApp.root_dir={root}", "--LabApp.extension_manager=readonly", "--expose-app-in-browser"]
    lab = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", *options],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=2).close()
                break
            except OSError:
                assert lab.poll() is None, "JupyterLab ended at once"
                time.sleep(0.5)
        yield address
    finally:
        lab.terminate()
        lab.wait(20)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield b
        b.close()


@pytest.mark.parametrize("book", BOOKS, ids=[b.stem for b in BOOKS])
def test_all_cells_run_and_the_sliders_move_the_picture(server, browser, book):
    # tall: JupyterLab draws only the cells that are in view
    page = browser.new_page(viewport={"width": 1300, "height": 16000})
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(f"{server}/lab/tree/{book.name}?reset")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.isReady", timeout=60_000)
    page.evaluate(
        "async () => { await jupyterapp.shell.currentWidget.sessionContext.ready;"
        " await jupyterapp.commands.execute('notebook:run-all-cells'); }"
    )
    page.wait_for_function(f"document.body.textContent.includes('{book.stem}: finished')", timeout=180_000)
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert page.locator(".js-plotly-plot .main-svg").count() >= 3
    explorers = page.locator(".widget-vbox:has(.js-plotly-plot)")
    explorers.first.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=30_000)
    for n in range(explorers.count()):
        assert moved(page, explorers.nth(n)) >= 1
    assert explorers.count() >= 1 and not errors
    assert page.locator(".widget-vbox .jp-OutputArea-output").count() == 0  # an error in a callback would stand there
    if folder := os.environ.get("LOTTO_SCREENSHOTS"):
        page.locator(".widget-vbox").first.screenshot(path=f"{folder}/{book.stem}.png")
    page.close()


def moved(page, explorer):
    """How many of an explorer's sliders a key moved, and its figure with each; they are moved back, for a choice may
    leave the others nothing to say (the dense net has one level)."""
    figure, count = explorer.locator(".js-plotly-plot"), 0
    for slider in explorer.locator(".widget-slider").all():
        handle, readout, start = slider.locator(".noUi-handle"), slider.locator(".widget-readout"), figure.inner_html()
        said = readout.text_content()
        for key, back in (("ArrowRight", "ArrowLeft"), ("ArrowLeft", "ArrowRight")):  # whichever end it stands at
            handle.press(key)
            page.wait_for_timeout(300)
            if readout.text_content() == said:  # at its end, or of one choice
                continue
            for press in (None, back):
                before = figure.inner_html() if press else start
                if press:
                    handle.press(press)
                page.wait_for_function(
                    "([e, b]) => e.innerHTML !== b", arg=[figure.element_handle(), before], timeout=120_000
                )
            count += 1
            break
    return count


EXPLORERS = {
    "images": ("01_distillation", 0),
    "tickets": ("02_distilled_imp", 0),
    "paths": ("03_stability", 0),
    "spectra": ("04_sharpness", 0),
    "planes": ("04_sharpness", 1),
    "switches": ("05_high_sparsity", 0),
    "regime": ("06_what_makes_it_stable", 0),
    "what if": ("06_what_makes_it_stable", 1),
}
"""Explorer -> the committed notebook that it is in, and which of its figures with a control it is."""


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """The folder with the HTML copies of the committed notebooks."""
    from lotto.lab import report

    folder = tmp_path_factory.mktemp("pages")
    for book in BOOKS:
        report.page(book, folder)
    return folder


@pytest.mark.parametrize("name", EXPLORERS)
def test_in_a_page_without_kernel_or_network_a_key_moves_the_explorer(copies, browser, name):
    book, number = EXPLORERS[name]
    context = browser.new_context(offline=True, viewport={"width": 1000, "height": 900})
    page, asked, errors = context.new_page(), [], []
    page.set_default_timeout(120_000)  # on a machine that is busy
    # a clock as coarse as a slow machine's: plotly divides the time since a transition began by its duration
    page.add_init_script("const now = Date.now; Date.now = () => 100 * Math.floor(now() / 100)")
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
    page.goto((copies / f"{book}.html").as_uri())
    page.wait_for_function(f"document.querySelectorAll('.control').length > {number}")
    control, figure = page.locator(".control").nth(number), page.locator(".control + .scroll .figure").nth(number)
    assert control.locator("span").text_content() and control.locator("output").text_content(), "it says what it moves"
    said, before = control.locator("output").text_content(), figure.inner_html()
    for key in ("ArrowRight", "ArrowLeft"):  # whichever end it stands at
        control.locator("input").press(key)
        if control.locator("output").text_content() != said:
            break
    assert control.locator("output").text_content() != said
    assert control.locator("input").get_attribute("aria-valuetext") == control.locator("output").text_content()
    page.wait_for_function("([e, b]) => e.innerHTML !== b", arg=[figure.element_handle(), before])
    assert not errors and not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    if folder := os.environ.get("LOTTO_SCREENSHOTS"):
        figure.screenshot(path=f"{folder}/page-{name}.png")
    context.close()
