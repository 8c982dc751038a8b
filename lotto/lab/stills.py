"""Still pictures of figures, for viewers that run no scripts. A browser makes them, if there is one.

Nothing depends on a still: if no browser is found, or it fails or does not answer in time, one line says so and the
process goes on without stills. `LOTTO_STILLS=0` switches stills off, `BROWSER_PATH` names the browser.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

LIMIT = 30.0
"""Seconds that a browser has to start, and to draw each figure."""
_state: dict[str, Any] = {}
"""`camera`: the browser in use; `trouble`: why there is none."""


class NoBrowser(RuntimeError):
    """No browser can be used here: one sentence that says why."""


def browser() -> str:
    """The path of a Chromium-like browser: `BROWSER_PATH` if it is set, else what choreographer finds. NoBrowser if
    there is none."""
    if path := os.environ.get("BROWSER_PATH"):
        if Path(path).is_file() and os.access(path, os.X_OK):
            return path
        raise NoBrowser(f"BROWSER_PATH = {path!r} is not a program; give the path of Chromium or Chrome, or unset it")
    from choreographer.browsers.chromium import Chromium

    if path := Chromium.find_browser(skip_local=False):
        return path
    raise NoBrowser("no Chromium or Chrome was found (BROWSER_PATH can name one)")


class _Camera:
    """A browser that stays open, driven by kaleido from an event loop in a thread of its own, so that every wait can
    have a limit."""

    def __init__(self) -> None:
        self.path = browser()
        self.loop = asyncio.new_event_loop()
        self.kaleido: Any = None
        threading.Thread(target=self._serve, name="stills", daemon=True).start()
        atexit.register(self.close)
        self._wait(self._open())

    def _serve(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.loop.run_forever()

    async def _open(self) -> None:
        import kaleido

        for name in ("choreographer", "kaleido"):  # they also log the errors that they raise
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # mathjax=False: its page would otherwise wait for a script from the network
        self.kaleido = kaleido.Kaleido(n=1, path=self.path, mathjax=False, timeout=LIMIT)
        await self.kaleido.open()

    def _wait(self, what: Coroutine[Any, Any, Any], seconds: float | None = None) -> Any:
        future: Future = asyncio.run_coroutine_threadsafe(what, self.loop)
        try:
            return future.result(seconds or LIMIT)
        except TimeoutError:
            self.kill()
            raise NoBrowser(f"the browser {self.path} did not answer within {seconds or LIMIT:g} s") from None
        except Exception as error:  # of any kind: the program may not be a browser
            self.kill()
            raise NoBrowser(f"the browser {self.path} failed ({type(error).__name__})") from None

    def picture(self, fig: go.Figure) -> bytes:
        """The figure as PNG. NoBrowser where the browser fails or does not answer."""
        return self._wait(self.kaleido.calc_fig(fig, opts=dict(format="png", scale=0.82)))

    def kill(self) -> None:
        """End the browser and all it has started, at once. It runs in a session, and so in a process group, of its
        own."""
        process = getattr(self.kaleido, "subprocess", None)
        if process is not None and process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()

    def close(self) -> None:
        """Close the browser; one that does not end by itself is killed."""
        if self.kaleido is not None:
            with contextlib.suppress(NoBrowser):
                self._wait(self.kaleido.close(), 5.0)
            self.kill()
        self.kaleido = None


def still(fig: go.Figure) -> bytes | None:
    """The figure as PNG, or None if no browser can make it; the reason is printed once, on stderr."""
    if os.environ.get("LOTTO_STILLS", "1") == "0" or "trouble" in _state:
        return None
    try:
        _state.setdefault("camera", None)
        _state["camera"] = _state["camera"] or _Camera()
        return _few_colours(_state["camera"].picture(fig))
    except NoBrowser as error:
        _state["trouble"] = str(error)
        print(f"no still pictures: {error}", file=sys.stderr, flush=True)
        return None


def trouble() -> str | None:
    """Why no still can be made here, found by trying; None if one can, or if stills are switched off. The browser is
    closed again."""
    import plotly.graph_objects as go

    with contextlib.redirect_stderr(io.StringIO()):
        still(go.Figure())
    if camera := _state.pop("camera", None):
        camera.close()
    return _state.get("trouble")


def _few_colours(png: bytes) -> bytes:
    # a palette of 48 colours, chosen to cover all of a chart's, cuts the file to a third
    from PIL import Image

    out = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(48, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).save(
        out, "png", optimize=True
    )
    return out.getvalue()
