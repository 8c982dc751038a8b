"""index.html of a run (board of claims, notebooks, how it was made, its cost) and of a grid (its cells)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lotto.lab.report import _document, _written, files

COMPARE = "compare.html"
"""The page beside the index that sets a run beside the reference."""

LEAD = (
    "<p>Which weights of an untrained network may be removed by looking only at a handful of distilled images, so that "
    "what is left trains stably to full accuracy? Every arm prunes the same initialisations; each notebook asks one "
    "question, and its page begins with the answer of this run.</p>"
)
"""The question that all notebooks ask."""

BOARD = (
    "P: the paper's claims; C: controls; D: what distillation promises; A: exploratory. A run gives estimates, from "
    "three initialisations on with 95 % intervals. <i>word</i>: that of the reference run. <i>agrees</i>: whether all "
    "comparisons lie in the 95 % prediction intervals that the reference leads one to expect; a dash where they cannot "
    "be compared. <i>but</i>: a second reading of the claim, chosen for being unfavourable."
)
"""What the board's columns say, where they do not say it themselves."""


def index(
    folder: Path,
    entries: Sequence[Mapping[str, Any]],
    facts: Mapping[str, str],
    parameters: Mapping[str, Any],
    arms: Sequence[Mapping[str, str]] = (),
) -> Path:
    """Write index.html over a folder of pages and return its path.

    An entry is one notebook: `name`, `status`, and if it is finished `title`, `seconds`, `core_seconds` and `board`
    (rows of column -> text). `facts`: what the run was made with; `parameters`: all values of the study; `arms`: what
    it found of each, a row of column -> text.
    """
    rows = [{"notebook": e["name"], **row} for e in entries for row in e.get("board", ())]
    books = [
        {
            "notebook": e["name"],
            "": e.get("title", ""),
            "status": e["status"],
            "seconds": _number(e.get("seconds")),
            "core-seconds": _number(e.get("core_seconds")),
            "as the reference": agreement(e.get("board", ())),
        }
        for e in entries
    ]
    whole = [e["name"] for e in entries if e["status"] != "FAILED"]  # an earlier page of one that failed is no result
    linked = {name: page for name in whole if (folder / (page := f"{name}.html")).exists()}
    tour = "00_tour"
    begin = f'<p>Begin with <a href="{linked[tour]}">{tour}</a>.</p>' if tour in linked else ""
    parts = ["<h1>Lottery tickets from distilled images</h1>", LEAD, begin, "<h2>Notebooks</h2>", _rows(books, linked)]
    if arms:
        parts += ["<h2>The arms of this run</h2>", _rows(arms, {})]
    if rows:
        parts += ["<h2>What this run says of each claim</h2>", f"<p>{BOARD}</p>", _rows(rows, linked)]
    if (folder / COMPARE).exists():
        parts.append(f'<p><a href="{COMPARE}">This run beside the reference run</a>, in figures.</p>')
    size = sum(f.stat().st_size for f in files(folder, [*linked, "compare"])) / 1e6
    made = _made_with({**facts, "this folder": f"{size:.1f} MB"}, parameters)
    return _page(folder, "lotto: results", [*parts, *made])


def index_of_cells(
    folder: Path, name: str, rows: Sequence[Mapping[str, Any]], shared: Sequence[str], facts: Mapping[str, str]
) -> Path:
    """Write index.html over the folders of a grid's cells and return its path.

    A row is one cell: `cell`, the name of its folder, and its other columns as text. `shared`: files in `folder` that
    belong to all cells.
    """
    linked = {r["cell"]: quote(page) for r in rows if (folder / (page := f"{r['cell']}/index.html")).exists()}
    links = [f'<a href="{quote(file)}">{escape(file)}</a>' for file in shared if (folder / file).exists()]
    parts = [f"<h1>Grid {escape(name)}</h1>", f"<p>All cells together: {', '.join(links)}</p>" if links else ""]
    return _page(folder, f"lotto: grid {name}", [*parts, "<h2>Cells</h2>", _rows(rows, linked), *_made_with(facts)])


def _page(folder: Path, name: str, parts: Sequence[str]) -> Path:
    return _written(folder / "index.html", _document(name, f'<main class="index">{"".join(parts)}</main>'))


def _made_with(facts: Mapping[str, str], parameters: Mapping[str, Any] | None = None) -> list[str]:
    parts = ["<h2>Made with</h2>", _pairs(facts)]
    if parameters is not None:
        parts += ["<details><summary>all parameters</summary>", _pairs(parameters), "</details>"]
    return parts


def agreement(board: Sequence[Mapping[str, str]]) -> str:
    """How many of a board's claims came out as the reference run leads one to expect, such as "5 of 6"; "" if none can
    be compared."""
    known = [row["agrees"] for row in board if row.get("agrees") in ("yes", "no")]
    return f"{known.count('yes')} of {len(known)}" if known else ""


def _number(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.0f}"


def _rows(rows: Sequence[Mapping[str, Any]], linked: Mapping[str, str]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(_entry(c, str(row.get(c, '')), linked) for c in columns)}</tr>" for row in rows)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def lines(told: str) -> str:
    """What a board tells as HTML, one comparison a line."""
    return "<br>".join(map(escape, re.split(r"; (?![^()]*\))", told)))


def _entry(column: str, text: str, linked: Mapping[str, str]) -> str:
    shown = lines(text) if column in ("here", "reference") else escape(text)
    if column in ("notebook", "cell") and text in linked:
        shown = f'<a href="{linked[text]}">{shown}</a>'
    if column in ("word", "status") and text:
        shown = f'<span class="chip {tone(text)}">{shown}</span>'
    return f'<td class="{"number" if re.fullmatch(r"[0-9,.]+", text) else "text"}">{shown}</td>'


def tone(word: str) -> str:
    """The tone of a board's word or of a status: good, bad, open or plain."""
    # "bad" first: "does not hold" contains "hold"
    tones = {
        "bad": r"not hold|fail|interrupted",
        "good": r"^(holds|ok|up to date|matches)",
        "open": r"undecided|cannot|paused|not run|waiting",
    }
    return next((tone for tone, pattern in tones.items() if re.search(pattern, word, re.I)), "plain")


def _pairs(pairs: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th>{escape(str(n))}</th><td>{escape(str(v))}</td></tr>" for n, v in pairs.items())
    return f'<div class="table"><table class="pairs"><tbody>{rows}</tbody></table></div>'
