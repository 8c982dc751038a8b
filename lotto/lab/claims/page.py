"""CLAIMS.md: every claim beside every reference run, with intervals, twins and controls, and every arm that was run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from lotto.lab.arms import ARMS
from lotto.lab.claims import contrasts, plans, runs
from lotto.lab.claims.board import WORDS, estimates, existence, markdown, where
from lotto.lab.claims.judge import SHORT, Estimate, Judged, estimate
from lotto.stats import Interval


def page() -> str:
    """The page of all claims: every run, every comparison with interval, twin and control, as Markdown."""
    parts = ["# Claims and what the reference runs say of them\n"]
    parts += ["Made by `python -m lotto.run claims`; rules in `lotto/lab/claims/rules.py`.\n"]
    parts += ["\n".join(f"- **{w}**: {what}." for w, what in WORDS.items()) + "\n"]
    parts += [
        "Sources say where a claim comes from; its comparators and margins are this study's (that distilled tickets "
        "are more stable than IMP's, P3, also stands in the abstract of the paper's predecessor, arXiv 2310.18769). p "
        "is two-sided: twice the smaller of the p of all comparisons coming out, the largest of theirs, and of one "
        f"coming out the other way, the smallest times their number; then corrected. {existence()}\n"
    ]
    for name in plans.PLANS:
        if not (runs.FOLDER / f"{name}.json").exists():
            parts.append(f"## {name}\n\nNot run yet.\n")
            continue
        kept = runs.reference(name)
        parts.append(f"## {name}\n\n{kept.origin}\n\n{measured(kept)}\n")
        lines = {j: _lines(kept, j) for j in kept.judged()}
        for j in filter(lines.get, lines):
            p = f", p = {j.p:.3g} (Holm)" if j.p is not None else ""
            primary = "primary" if j.claim.primary else "exploratory"
            said = f"{j.claim.text[0].upper()}{j.claim.text[1:]}"
            word = "estimate, as not all of it was run" if j.word == "not run" else j.word
            head = [f"### {j.claim.id} {j.claim.short}: {word}{p}", "", f"{said}. *{j.claim.source}; {primary}.*", ""]
            parts.append("\n".join([*head, *lines[j]]) + "\n")
        if absent := [f"{j.claim.id} ({j.claim.short})" for j, found in lines.items() if not found]:
            parts.append(f"Not run: {', '.join(absent)}.\n")
        parts += over_sparsity(kept)
        if effects := contrasts.main_effects(kept):
            parts.append(f"### The factorial\n\n{contrasts.EFFECTS}\n\n{markdown(effects)}")
        if pairs := contrasts.pulled_apart(kept):
            said = f"{contrasts.AFTER_THE_WORDS}\n\n{markdown(list(pairs.values()))}"
            parts.append(f"### Masks and norms apart\n\n{said}")
        parts.append(
            "### Every arm\n\nMeans of what the primary claims measure, and of accuracy and barrier wherever they were "
            "run, at the sparsity named; dense nets as they are. In brackets: initialisations, where not all are done. "
            "A net without an accuracy counts as guessing, one that did not train has the highest barrier there can be "
            f"({100 - 100 / kept.facts['classes']:.0f}). "
            f"*Interpolated*: {INTERPOLATED}.\n\n{every_arm(kept)}"
        )
    return "\n".join(parts)


def measured(kept: runs.Reference) -> str:
    """How a reference run measures a barrier: points of a path, and pairs of children by batch."""
    done = {n: b["children"] for n, b in kept.facts["batches"].items() if b["done"] and "barrier" in b["tables"]}
    by = {c: ", ".join(n for n, other in done.items() if other == c) for c in sorted(set(done.values()))}
    pairs = [f"{(k := math.comb(c, 2))} pair{'s' if k > 1 else ''} of children ({who})" for c, who in by.items()]
    return (
        f"A barrier is the highest of {kept.study.points} points on the straight line between two children, above the "
        f"mean of its ends, and the mean over the pairs of a ticket: {'; '.join(pairs)}. Tickets of several batches "
        "are those of the first. A barrier hardly exceeds the error of guessing less that of the ends: for inaccurate "
        "nets a low one says nothing."
    )


INTERPOLATED = (
    "batch norm with the interpolated statistics of both ends, as in the paper line's code, where everything else here "
    "recalibrates them at every point of a path"
)


def _lines(kept: runs.Reference, judged: Judged) -> list[str]:
    """The comparisons of a claim, and beside them what another reading makes of the same nets."""

    def line(e: Estimate, before: str = "") -> str:
        return f"- {before}{e.text()}{where([e], kept.study)}, n = {e.difference.n}"

    found = [line(e) for e in judged.parts]
    found += [line(e, "control, must be told worse: ") for e in judged.controls]
    found += [line(e, "beside it: ") for e in filter(None, [judged.twin])]
    levels, guess = kept.regime, 100 / kept.facts["classes"]
    for e in judged.parts:
        if e.part.measure == "barrier" and (other := estimate(e.part, kept.interpolated.tables, levels, guess)):
            found.append(line(other, "statistics interpolated: "))
    if judged.twin and judged.twin.part.measure == "removed":  # what as many weights of each layer leave of it
        part = dataclasses.replace(judged.twin.part, measure="excess")
        found += [line(e, "of that, above chance: ") for e in [estimate(part, kept.tables, levels, guess)] if e]
    return found


def over_sparsity(kept: runs.Reference) -> list[str]:
    """The arms of the curves, as a Markdown table of their accuracies and one of their barriers at every level; nothing
    before they were run."""
    batch = kept.facts["batches"].get("curves")
    if not batch or not batch["done"]:
        return []
    found = [
        "### Over sparsity\n\nThe curves of the notebooks as numbers: means with their 95 % intervals. "
        "A net that did not train has the highest barrier there can be here, as in the claims, and none in the "
        "curves.\n"
    ]
    for measure in ("accuracy", "barrier"):
        columns = {kept.study.sparse(at): estimates(kept, measure, at) for at in batch["levels"]}
        found.append(_table(measure, [m for m in ARMS if m in batch["methods"]], columns, kept, str))
    return found


def _table(
    corner: str,
    arms: Sequence[str],
    columns: Mapping[str, Mapping[str, Interval]],
    kept: runs.Reference,
    told: Callable[[Interval], str],
) -> str:
    """Arms by columns, as Markdown; behind a number that not all initialisations have, in brackets how many."""
    rows = []
    for arm in arms:
        there = {n: column[arm] for n, column in columns.items() if arm in column}
        cells = {n: told(e) + (f" ({e.n})" if e.n < kept.planned else "") for n, e in there.items()}
        rows.append({corner: ARMS[arm].title} | {n: cells.get(n, "") for n in columns})
    return markdown(rows)


def every_arm(kept: runs.Reference) -> str:
    """A Markdown table of a reference run: for every arm the means over initialisations of what its primary claims
    measure at their levels, and of accuracy and barrier at every level (dense nets: at their own)."""
    judged = [j for j in kept.judged() if j.claim.primary]
    taken = [e for j in judged for e in (*j.parts, *filter(None, [j.twin])) if e.part.at in ("main", "fine", "high")]
    pairs = {(e.level, e.part.measure) for e in taken}
    done = [b for n, b in kept.facts["batches"].items() if b["done"] and n != "curves"]
    pairs |= {(at, t) for b in done for at in b["levels"] for t in ("accuracy", "barrier") if t in kept.tables}
    columns = {
        f"{SHORT[measure].strip(',')}, {kept.study.sparse(level)}": estimates(kept, measure, level)
        for level, measure in sorted(pairs)
    }
    if "barrier" in (other := kept.interpolated).tables:
        main = kept.regime.main
        columns[f"barrier, {kept.study.sparse(main)}, interpolated"] = estimates(other, "barrier", main)
    arms = [arm for arm in ARMS if any(arm in found for found in columns.values())]
    return _table("arm", arms, columns, kept, lambda e: f"{e.mean:.1f}")
