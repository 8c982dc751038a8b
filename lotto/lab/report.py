"""HTML copies of executed notebooks. A page loads nothing from the network, and making one needs no browser.

Figures are drawn by plotly's own script, of which one copy lies beside the pages; formulas are MathML; code and
parameters are folded.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lotto.lab.product import replacing

PLOTLY = "plotly.min.js"
"""The script beside the pages that draws their figures."""

HERE = Path(__file__).parent

_LIMITS = ("min", "max", "sup", "inf", "lim", "argmin", "argmax")


# formulas


def formula(tex: str, display: str = "inline") -> str:
    """TeX as MathML that browsers draw without a script (MathML Core); the TeX itself if it cannot be parsed."""
    from latex2mathml.converter import convert

    try:
        made = ElementTree.fromstring(convert(tex.replace(r"\|", "‖"), xmlns="", display=display))
    except Exception:  # the library raises errors of many kinds on invalid TeX
        return f"<code>{escape(tex)}</code>"
    for node in made.iter():
        style = node.attrib.get("mathvariant", "normal")
        if style != "normal" and node.text:  # browsers know letters of other styles as characters, not as an attribute
            node.text = "".join(_letter(c, style) for c in node.text)
            del node.attrib["mathvariant"]
        if node.text == "‖" and "minsize" not in node.attrib:  # a plain norm keeps its size
            node.attrib.setdefault("stretchy", "false")
        if "columnalign" in node.attrib:
            node.attrib["style"] = f"text-align: {node.attrib.pop('columnalign')}"
        if display == "block" and node.tag == "msub" and node[0].text in _LIMITS:
            node.tag = "munder"
    return ElementTree.tostring(made, encoding="unicode")


def _letter(c: str, style: str) -> str:
    name = unicodedata.name(c, "").replace("LATIN ", "").replace("GREEK ", "").replace(" LETTER", "")
    name = f"{style.replace('-', ' ').upper().replace('DOUBLE STRUCK', 'DOUBLE-STRUCK')} {name}"
    for known in (f"MATHEMATICAL {name}", name, name.replace("FRAKTUR", "BLACK-LETTER")):
        try:
            return unicodedata.lookup(known)
        except KeyError:
            pass
    return c


# text and code


def markdown(text: str, base: Path | None = None, attachments: dict | None = None) -> str:
    """Markdown of a notebook as HTML: formulas as MathML, local pictures inside the page."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def inline_math(self, body: str) -> str:
            return formula(body)

        def block_math(self, body: str) -> str:
            return formula(body, "block")

        def latex_environment(self, name: str, body: str) -> str:
            return formula(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    renderer = Renderer(escape=False, embed_images=base is not None, path=str(base or ""), attachments=attachments)
    return _scrolling(MarkdownWithMath(renderer=renderer).render(text))


def _scrolling(html: str) -> str:
    """Tables in boxes that scroll, without the style sheet that pandas puts before each."""
    html = re.sub(r"<style scoped>.*?</style>", "", html, flags=re.S)
    return re.sub(r"<table\b", '<div class="table"><table', html).replace("</table>", "</table></div>")


def code(source: str) -> str:
    """Python source as HTML with syntax highlighting."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return highlight(source, PythonLexer(), HtmlFormatter(cssclass="code"))


# outputs


def figure(bundle: Mapping[str, Any]) -> str:
    """A figure's box and its data; until the script has drawn it (or if it cannot), the box holds the still picture,
    if there is one."""
    spec = bundle["application/vnd.plotly.v1+json"]
    png = "".join(bundle.get("image/png", "")).replace("\n", "")
    still = (
        f'<img alt="" src="data:image/png;base64,{png}">'
        if png
        else f"<p>This figure is drawn by {PLOTLY}, which lies beside this page.</p>"
    )
    height = spec.get("layout", {}).get("height", 450)
    parts = {n: spec[n] for n in ("data", "layout", "config", "frames") if n in spec}
    data = json.dumps(parts, separators=(",", ":")).replace("<", r"\u003c")  # no tag or comment begins in it
    return (
        f'<div class="scroll"><div class="figure" style="min-height:{height:g}px">{still}</div></div>'
        f'<script type="application/json" class="spec">{data}</script>'
    )


def output(out: Mapping[str, Any], base: Path | None = None) -> str:
    """One output of a cell, in the richest form that a page without a kernel can show."""
    if out["output_type"] == "stream":
        text = f"<pre>{escape(_plain(out['text']))}</pre>"
        return text if out["name"] == "stdout" else f"<details><summary>messages</summary>{text}</details>"
    if out["output_type"] == "error":
        return f'<pre class="error">{escape(_plain(chr(10).join(out["traceback"])))}</pre>'
    data = {kind: text if isinstance(text, dict) else "".join(text) for kind, text in out["data"].items()}
    if "application/vnd.plotly.v1+json" in data:
        return figure(data)
    if "application/vnd.jupyter.widget-view+json" in data:
        return '<p class="note">Controls stand here in a running notebook.</p>'
    if "text/html" in data:
        return _scrolling(data["text/html"])
    if "text/markdown" in data:
        return markdown(data["text/markdown"], base)
    if "image/svg+xml" in data:
        return data["image/svg+xml"]
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            return f'<img alt="" src="data:{kind};base64,{data[kind].strip()}">'
    if "text/latex" in data:
        return markdown(data["text/latex"], base)
    return f"<pre>{escape(_plain(data.get('text/plain', '')))}</pre>"


def _plain(text: str | Sequence[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", "".join(text))


# pages


def _cell(cell: Any, base: Path | None) -> str:
    if cell.cell_type == "markdown":
        return f"<section>{markdown(cell.source, base, cell.get('attachments'))}</section>"
    if cell.cell_type != "code":
        return ""
    tags = cell.metadata.get("tags", [])
    name = (
        "parameters of this run" if "injected-parameters" in tags else "parameters" if "parameters" in tags else "code"
    )
    folded = f"<details><summary>{name}</summary>{code(cell.source)}</details>" if cell.source.strip() else ""
    return f'<section class="cell">{folded}{"".join(output(o, base) for o in cell.outputs)}</section>'


def title(notebook: Path) -> str:
    """The notebook's first heading, by default its name."""
    import nbformat

    for cell in nbformat.read(notebook, 4).cells:
        if cell.cell_type == "markdown" and (found := re.search(r"^# (.+)$", cell.source, re.M)):
            return found[1].strip()
    return notebook.stem


def page(notebook: Path, folder: Path | None = None, base: Path | None = None) -> Path:
    """Write the HTML copy of an executed notebook into `folder` (by default beside it) and return its path.

    `base` is the folder that relative paths of pictures in its text start from, by default the notebook's own.
    """
    import nbformat

    nb = nbformat.read(notebook, 4)
    folder, base = folder or notebook.parent, base or notebook.parent
    body = _relinked("\n".join(_cell(c, base) for c in nb.cells), base, folder)
    return paper(folder / f"{notebook.stem}.html", title(notebook), body, '<button id="unfold">Show code</button>')


def paper(file: Path, name: str, body: str, buttons: str = "") -> Path:
    """Write a page beside the index, with a link back to it and the script that draws its figures."""
    bar = f'<nav><a href="index.html">All notebooks</a>{buttons}</nav>'
    figures = f'<script src="{PLOTLY}"></script>' if 'class="figure"' in body else ""
    if figures:
        _script(file.parent)
    script = f"{figures}<script>{(HERE / 'page.js').read_text()}</script>"
    return _written(file, _document(name, f"{bar}<main>{body}</main>{script}"))


def files(folder: Path, notebooks: Sequence[str]) -> list[Path]:
    """The files of the report of some notebooks in a folder, sorted: the notebooks with their manifests and pages, the
    index, and every file in the folder that a page refers to."""
    todo = [folder / f"{name}.{kind}" for name in notebooks for kind in ("ipynb", "json", "html")]
    todo, found = [*todo, folder / "index.html"], set()
    while todo:
        file = todo.pop()
        if file in found or not file.is_file():
            continue
        found.add(file)
        if file.suffix == ".html":
            linked = ((folder / url).resolve() for url in references(file.read_text()))
            todo += [f for f in linked if f.is_relative_to(folder.resolve())]
    return sorted(found)


def references(html: str) -> list[str]:
    """The relative paths of the files that a page loads or links to, as it writes them."""
    return re.findall(r'\b(?:src|href)="(?!#|[a-z]+:)([^"#?]+)', html)


def _relinked(html: str, base: Path, folder: Path) -> str:
    """Turn links to notebooks into links to their pages, and make links to other existing files relative to
    `folder`."""

    def link(found: re.Match) -> str:
        url = found[1]
        if url.endswith(".ipynb"):
            return f'href="{url.removesuffix(".ipynb")}.html"'
        return f'href="{Path(os.path.relpath(base / url, folder)).as_posix()}"' if (base / url).exists() else found[0]

    return re.sub(r'href="(?!#|[a-z]+:)([^"]+)"', link, html)


def _script(folder: Path) -> None:
    """Put plotly's script, from the installed package, into a folder of pages."""
    from plotly.offline import get_plotlyjs

    text, file = get_plotlyjs().encode(), folder / PLOTLY
    if not file.exists() or file.read_bytes() != text:
        file.write_bytes(text)


def _document(name: str, body: str) -> str:
    from pygments.formatters import HtmlFormatter

    style = (HERE / "page.css").read_text() + HtmlFormatter(cssclass="code", style="friendly").get_style_defs(".code")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(name)}</title>\n<style>\n{style}\n</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _written(file: Path, text: str) -> Path:
    with replacing(file) as part:  # shards of a grid may end together
        part.write_text(text, encoding="utf-8")
    return file
