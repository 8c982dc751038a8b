"""compare.html: the comparisons of a run beside the reference run's, in one figure, and how the two studies differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lotto.lab import index, plots, report
from lotto.lab.claims import figures, runs
from lotto.lab.study import Study
from lotto.stats import Interval

AGREES = {True: "yes", False: "no", None: "cannot be said"}


def page(folder: Path, entries: Sequence[Mapping[str, Any]], study: Study) -> Path | None:
    """Write compare.html into a run's folder and return its path; if the preset has no reference run, or nothing was
    compared, remove the page and return None.

    entries: as `index.index` takes them, with the comparisons of each in `compared` (`claims.board.comparisons`).
    """
    file, kept = folder / index.COMPARE, runs.known(study.preset)
    compared = {(c["claim"], c["what"]): c for entry in entries for c in entry.get("compared", ())}
    if not kept or not compared:
        file.unlink(missing_ok=True)
        return None
    told = list(compared.values())
    title = f"This run, {plots.counted(study)}, beside the reference's {kept.study.seeds}"
    drawn = json.loads(figures.beside(told, f"{title}: differences with 95 % intervals").to_json())
    body = [
        "<h1>This run beside the reference</h1>",
        report.markdown(f"{summary(told)}\n\n{kept.origin}"),
        report.figure({"application/vnd.plotly.v1+json": drawn}),
        "<h2>Every comparison</h2>",
        index._rows([_row(c) for c in told], {}),
        "<h2>Parameters that differ</h2>",
        index._rows(differing(study, kept.study), {}),
    ]
    # all rows at once, as in the index
    return report.paper(file, "lotto: this run beside the reference", f'<div class="index">{"".join(body)}</div>')


def summary(compared: Sequence[Mapping[str, Any]]) -> str:
    """How many comparisons agree with the reference, and what that means, in a few sentences of Markdown."""
    known = [c for c in compared if c["agrees"] is not None]
    if not known:
        return (
            "None of these comparisons can be set beside the reference's: it lacks them at the same sparsity, or has "
            "fewer than three initialisations."
        )
    off = [f"{c['claim'].split()[0]} ({c['what']})" for c in known if not c["agrees"]]
    return (
        f"{len(known) - len(off)} of {len(known)} comparisons came out as the reference leads one to expect: within "
        "the 95 % prediction interval for as many initialisations, too narrow where the reference's barriers are "
        "means over more children. "
        + (f"Not so: {escape('; '.join(off))} (hollow in the figure). " if off else "")
        + (f"{len(compared) - len(known)} more cannot be compared. " if len(compared) > len(known) else "")
        + "Differences are signed so that the right side favours the claim."
    )


def _row(c: Mapping[str, Any]) -> dict[str, str]:
    return {
        "claim": c["claim"],
        "comparison": c["what"],
        "at": c["where"],
        "this run": _text(c["here"]),
        "reference": _text(c["reference"]),
        "has to exceed": f"{c['line']:g}",
        "agrees": AGREES[c["agrees"]],
    }


def _text(found: Sequence[Any] | None) -> str:
    return f"{Interval(*found).text(2)} (n = {found[3]})" if found and found[0] is not None else "-"


def differing(mine: Study, theirs: Study) -> list[dict[str, str]]:
    """The parameters in which two studies differ: one row per parameter, with both values as text; `methods` are
    compared as the arms they stand for."""
    here, there = ({**s.named(), "methods": list(s.arms)} for s in (mine, theirs))
    return [
        {"parameter": name, "this run": str(here.get(name, "-")), "reference": str(there.get(name, "-"))}
        for name in dict.fromkeys([*here, *there])
        if here.get(name) != there.get(name)
    ]
