"""Each notebook in JupyterLab in a real browser: all cells run, an explorer's slider moved by keyboard, the picture
changes.

`LOTTO_SCREENSHOTS=DIR` keeps a picture of each explorer, to be looked at.
"""

import contextlib
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
    sliders, explorer = page.locator(".widget-slider"), page.locator(".widget-vbox .js-plotly-plot").first
    explorer.wait_for(timeout=30_000)
    assert sliders.count() >= 2
    moved = 0
    for i in range(sliders.count()):
        readout, before = sliders.nth(i).locator(".widget-readout"), explorer.inner_html()
        said = readout.text_content()
        handle = sliders.nth(i).locator(".noUi-handle")
        handle.focus()
        for key in ("ArrowRight", "ArrowLeft"):  # whichever end it stands at
            handle.press(key)
            with contextlib.suppress(sync_api.TimeoutError):
                page.wait_for_function(
                    "([e, s]) => e.textContent !== s", arg=[readout.element_handle(), said], timeout=700
                )
                break
        if readout.text_content() != said:  # a slider with one choice stays
            page.wait_for_function(
                "([e, b]) => e.innerHTML !== b", arg=[explorer.element_handle(), before], timeout=15_000
            )
            moved += 1
    assert moved >= 2 and not errors
    assert page.locator(".widget-vbox .jp-OutputArea-output").count() == 0  # an error in a callback would stand there
    if folder := os.environ.get("LOTTO_SCREENSHOTS"):
        page.locator(".widget-vbox").first.screenshot(path=f"{folder}/{book.stem}.png")
    page.close()
