"""The reference run of a preset, as the notebooks show it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from lotto.lab import answers, curves, plots
from lotto.lab.arms import ARMS, FACTORIAL
from lotto.lab.causes import figures as causes
from lotto.lab.claims import contrasts, figures, runs
from lotto.lab.claims.rules import STABLE
from lotto.lab.study import Study

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

DRAWN = ("imp", "imp-rewound", "distilled", "subset", "random-layerwise", "hybrid")
"""Arms of its curves."""


def shown(study: Study, notebook: str) -> runs.Reference | None:
    """Show what the reference run of the preset is and its comparisons for a notebook's claims; return it, where there
    is one."""
    kept = runs.known(study.preset)
    which, *how = kept.origin.split("; ", 1) if kept else ["No reference run of this preset is kept yet."]
    answers.say(which)
    if how:
        answers.html(f"<details><summary>how it was made</summary>{escape(how[0])}</details>")
    if kept and (judged := [j for j in kept.judged(notebook) if j.parts]):
        plots.show(
            figures.forest(judged, f"Reference, {plots.counted(kept.study)}: every comparison with its 95 % interval")
        )
    return kept


def over_sparsity(kept: runs.Reference) -> None:
    """Show its accuracy and barrier over sparsity, for each arm at the levels that all initialisations have come to."""
    seen = kept.view("main level", "curves")
    accuracy, barrier = (_whole(kept.tables[t], seen.seeds) for t in ("accuracy", "barrier"))
    drawn = accuracy[accuracy.method.isin(DRAWN)]
    seen = seen.but(methods=[m for m in DRAWN if m in set(drawn.method)], levels=sorted(set(drawn.level)))
    title = f"Reference: tickets over sparsity, {plots.counted(seen)}"
    plots.show(curves.both(accuracy, barrier, seen, title))
    lost = drawn[drawn.state != "trained"].groupby(["method", "level"]).size()
    told = [f"{n} of {ARMS[m].title} ({plots.sparsity(seen, at)})" for (m, at), n in lost.items()]
    answers.say(
        "A barrier hardly exceeds the error of guessing less that of its ends: where accuracy is low, a low one says "
        "nothing.",
        f"Behind hollow marks are nets that did not train, whose barriers are not in the means: {', '.join(told)}."
        if told
        else "",
    )


def _whole(table: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """The rows of those arms and levels that so many initialisations have."""
    return table[table.groupby(["method", "level"]).seed.transform("nunique") >= seeds]


def factorial(study: Study) -> go.Figure | None:
    """Its barriers over images, length, rate and rewinding; None where it has not come to three initialisations, below
    which there are no intervals."""
    kept = runs.known(study.preset)
    if not kept or len(kept.facts["batches"].get("factorial", {}).get("done", ())) < 3:
        return None
    whole = kept.view("factorial", methods=("dense", *FACTORIAL))
    title = f"Reference: barrier by images, length, rate and rewinding, {plots.counted(whole)}"
    return causes.factorial(kept.tables["barrier"], whole, "barrier", "error barrier (points)", title, STABLE)


def effects(study: Study) -> str:
    """What each factor of its factorial changes in the barrier at the level of the claims, in a sentence; empty before
    it has come so far."""
    kept = runs.known(study.preset)
    rows = contrasts.main_effects(kept) if kept else []
    if not rows:
        return ""
    at = kept.study.sparse(kept.regime.main)
    told: dict[str, list[str]] = {}
    for r in (r for r in rows if "," not in r["first minus second"]):  # over all others, and no part of them
        told.setdefault(r["factor"], []).append(f"{r['first minus second']} {r[at]}")
    return (
        f"In the reference run ({at} sparse) each factor, all others held equal, changes the barrier by: "
        + "; ".join(f"**{factor}**, {', '.join(each)}" for factor, each in told.items())
        + ". Below 0 the first is the more stable; exploratory."
    )


def main_effects(kept: runs.Reference) -> None:
    """Show, folded, what each factor of the factorial changes, all others held equal; nothing before it has come so
    far."""
    if rows := contrasts.main_effects(kept):
        answers.say(contrasts.EFFECTS)
        _fold(rows, "What each factor of the factorial changes in the barrier")


def _fold(rows: list[dict[str, str]], summary: str) -> None:
    import pandas as pd

    answers.fold(pd.DataFrame(rows).set_index(list(rows[0])[0]), summary, words=True)


def pulled_apart(kept: runs.Reference) -> None:
    """Show what masks do without the norms that loops leave, and norms without the mask, at the level of the claims;
    nothing where it has not come so far."""
    if not (pairs := contrasts.pulled_apart(kept)):
        return
    answers.say(contrasts.AFTER_THE_WORDS)
    arms = tuple(m for m in ARMS if m in {"dense", *(m for pair in pairs for m in pair)})
    seen = kept.view(methods=arms, levels=[kept.regime.main])
    title = f"Reference: masks and norms apart, {plots.counted(seen)}"
    plots.show(plots.dots(kept.tables["barrier"], seen, "barrier", "error barrier (points)", title, mark=STABLE))
    _fold([{n: text.replace("*", "") for n, text in row.items()} for row in pairs.values()], "The same as numbers")
