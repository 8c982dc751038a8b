"""Boards: the claims in a few short rows, for a notebook and the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lotto.lab.arms import ARMS
from lotto.lab.claims import runs
from lotto.lab.claims.judge import SHORT, Estimate, Judged, agrees, counted, judge
from lotto.lab.claims.plans import PLANS
from lotto.lab.claims.rules import CLAIMS, MEASURES, REGIMES, STABLE
from lotto.lab.study import Study
from lotto.lab.tables import failures
from lotto.stats import Interval, interval

CHIPS = {
    "holds": "**holds**",
    "fails": "**fails**",
    "undecided": "undecided",
    "cannot tell": "cannot tell",
    "estimate": "estimate",
    "exploratory": "exploratory",
    "not run": "not run",
}
"""Word -> how it is printed."""
WORDS = {
    "holds": "all its comparisons come out, after correction for the number of claims",
    "fails": "one of them comes out the other way, after correction",
    "undecided": "neither",
    "cannot tell": "it would hold, but so would a control that should fail",
    "estimate": "too few initialisations for a word, or not the run kept for it",
    "exploratory": "no rule of its own was fixed, or rules have changed since",
    "not run": "an arm it needs was not run here",
}
"""What each word says."""


class Board(NamedTuple):
    """What a notebook hands on when it has finished."""

    rows: Sequence[Mapping[str, str]] = ()
    """One per claim, as text (`rows`)."""
    numbers: Mapping[str, float | None] = {}
    """The estimates behind them, and those of every arm (`numbers`)."""
    compared: Sequence[Mapping[str, Any]] = ()
    """Every comparison beside the reference's (`comparisons`)."""


def rows(tables: dict[str, Any], study: Study, classes: int, notebook: str | None = None) -> list[dict[str, str]]:
    """The board of a run: one row per claim, with the run's estimates beside those of the preset's reference run.

    `agrees`: whether each estimate is one that the reference leads one to expect (`judge.agrees`), at the same
    sparsity.
    Words stand only under the reference, for a run of a few initialisations has none.
    """
    kept = runs.known(study.preset)
    theirs = {j.claim.id: j for j in kept.judged(notebook)} if kept else {}
    found = []
    for mine in judge(tables, study, classes, notebook):
        other = theirs.get(mine.claim.id)
        found.append(
            {
                "claim": f"{mine.claim.id} {mine.claim.short}",
                "here": told(mine, study),
                "reference": told(other, kept.study) if other else "none yet",
                "word": other.word if other else "not run",
                "agrees": _agreement(mine, study, other, kept.study) if other else "-",
                "but": mine.twin.text() if mine.twin else "-",
            }
        )
    return found


def comparisons(
    tables: Mapping[str, Any], study: Study, classes: int, notebook: str | None = None
) -> list[dict[str, Any]]:
    """Every comparison of a run in numbers, beside the reference's: the `claim` it belongs to, `what` and `where` it
    is, the `line` to exceed, the difference of this run (`here`) and of the reference at the same sparsity (or None),
    each as mean, low, high and initialisations and turned so that the claim lies to the right, and whether they agree
    (None: cannot be said)."""
    kept, found = runs.known(study.preset), []
    theirs = {e.part: e for j in kept.judged(notebook) for e in j.parts} if kept else {}
    for mine in judge(tables, study, classes, notebook):
        for e in mine.parts:
            other = theirs.get(e.part)
            other = other if other and _alike(e, study, other, kept.study) else None
            found.append(
                {
                    "claim": f"{mine.claim.id} {mine.claim.short}",
                    "what": e.named(),
                    "where": where([e], study).strip(" ()"),
                    "line": e.line,
                    "here": _turned(e),
                    "reference": _turned(other) if other else None,
                    "agrees": agrees(e, other) if other else None,
                }
            )
    return found


def _turned(e: Estimate) -> list[float | int | None]:
    d = e.difference
    low, high = (d.low, d.high) if e.sign > 0 or d.low is None else (-d.high, -d.low)
    return [None if d.mean is None else e.sign * d.mean, low, high, d.n]


def numbers(
    tables: Mapping[str, Any], study: Study, classes: int, notebook: str | None = None
) -> dict[str, float | None]:
    """Every estimate of a run as a number under a name of its own, for tables of many runs.

    `barrier/distilled/8` is the mean of a measure (`rules.MEASURES`) over the initialisations of an arm at a level (of
    a set: at its images a class), nets that did not train counted as in `judge.counted`;
    `barrier/distilled/8/untrained` is how many those are. `P3/barrier/distilled/imp` is what a claim compares: the
    difference of two arms, paired by initialisation, or the value of one that is held against a number. Each has its
    95 % interval beside it, under `.../low` and `.../high`: None below three initialisations.
    """
    guess, found = 100 / classes, {}
    for name, measure in MEASURES.items():
        if (table := tables.get(measure.table)) is None or not len(table):
            continue
        for arm, level in table[["method", "level"]].drop_duplicates().itertuples(index=False):
            if values := counted(table, name, arm, level, guess):
                found |= _columns(f"{name}/{arm}/{level}", interval(list(values.values())))
                if "state" in table:
                    found[f"{name}/{arm}/{level}/untrained"] = failures(table, arm, level)[0]
    for judged in judge(tables, study, classes, notebook):
        for e in judged.parts:
            than = f"/{e.part.than}" if e.other else ""
            found |= _columns(
                f"{judged.claim.id}/{e.part.measure}/{e.part.arm}{than}", e.difference if than else e.value
            )
    return found


def _columns(name: str, found: Interval) -> dict[str, float | None]:
    return {name: found.mean, f"{name}/low": found.low, f"{name}/high": found.high}


def told(judged: Judged, study: Study) -> str:
    """The comparisons of a claim, measured, and at which sparsity."""
    return ("; ".join(e.text() for e in judged.parts) + where(judged.parts, study)) or "not run"


def where(parts: Sequence[Estimate], study: Study) -> str:
    """The sparsities at which comparisons are made, as " (97.2 % sparse)"; nothing for sets and dense nets alone."""
    levels = sorted({e.level for e in parts if e.part.at in ("main", "fine", "high")})
    return f" ({', '.join(study.sparse(at) for at in levels)} sparse)" if levels else ""


def _alike(mine: Estimate, study: Study, theirs: Estimate, other: Study) -> bool:
    """Whether two studies measured the same: at another sparsity, or with sets of another size, the reference says
    nothing. Equal levels are not enough, as a round may remove another share."""
    return mine.level == theirs.level and where([mine], study) == where([theirs], other)


def _agreement(mine: Judged, study: Study, theirs: Judged, other: Study) -> str:
    known = {e.part: e for e in theirs.parts}
    both = [(e, known[e.part]) for e in mine.parts if e.part in known]
    found = [agrees(e, there) for e, there in both if _alike(e, study, there, other)]
    if not found or None in found:
        return "-"
    return "yes" if all(found) else "no"


def markdown(table: Sequence[dict[str, str]]) -> str:
    """Rows as a Markdown table."""
    if not table:
        return "No claim is judged here."
    head = list(table[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return (
        "\n".join(
            [
                *lines,
                *("| " + " | ".join(CHIPS.get(r[h], r[h]).replace("|", "\\|") for h in head) + " |" for r in table),
            ]
        )
        + "\n"
    )


def sentences(tables: dict[str, Any], study: Study, classes: int, notebook: str) -> str:
    """One sentence per claim, made from this run's numbers, as a Markdown list."""
    lines = []
    for j in judge(tables, study, classes, notebook):
        if not j.parts:
            needed = [(tables.get(MEASURES[p.measure].table), a) for p in j.claim.parts for a in (p.arm, p.than)]
            ran = all(t is not None and a in set(t.method) for t, a in needed if isinstance(a, str))
            why = "its nets have no such values" if ran else "its arms were not run here"
            lines.append(f"- {j.claim.id}, {j.claim.text}: {why}.")
            continue
        side = (
            "on the claim's side"
            if j.fits
            else "not on the claim's side"
            if len(j.parts) == 1
            else "not all on the claim's side"
        )
        side += " of its margin" if any(e.part.rule == "not worse" for e in j.parts) else ""
        absent, every = len(j.claim.parts) - len(j.parts), len(j.claim.parts)
        side += f"; {absent} of its {every} comparisons were not run here" if absent else ""
        does = {e.part: "is" if e.fits else "is not" for e in j.controls}
        controls = [f"*{ARMS[p.arm].title}* {does.get(p, 'was not run here')}" for p in j.claim.controls]
        side += f"; for it to count, controls must be worse by more: {', '.join(controls)}" if controls else ""
        lines.append(
            f"- {j.claim.id}, {j.claim.text}: {told(j, study)}. Over {j.n} initialisation{'s' if j.n > 1 else ''} the "
            f"means are {side}."
        )
    return "\n".join(lines)


def short() -> str:
    """README's board: the primary claims, in each regime the word and the comparison that speaks least for the claim,
    which is the one that a word rests on."""
    kept = {p: runs.known(p) for p in columns()}
    judged = {p: {j.claim.id: j for j in r.judged()} for p, r in kept.items() if r}
    head = ["claim", *(f"{p}, n = {r.study.seeds}" if p in judged else p for p, r in kept.items())]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for claim in (c for c in CLAIMS if c.primary):
        cells = [f"{claim.id} {claim.short}"]
        for p, r in kept.items():
            j = judged.get(p, {}).get(claim.id)
            cells.append(_cell(j, r) if j and j.parts else "not run yet")
        lines.append("| " + " | ".join(cells) + " |")
    told = existence()
    return "\n".join(lines) + "\n" + (f"\n{told}\n" if told else "")


def _cell(judged: Judged, kept: runs.Reference) -> str:
    """The word of a claim and its weakest comparison; the sparsity, where that is not the regime's main one, and the
    initialisations, where some are lacking."""
    # by p where it decides; of too few initialisations, it would prefer the steadiest to the farthest
    least = max(judged.parts, key=Estimate.p if judged.p is not None else _short_of)
    n = f", n = {judged.n}" if judged.n < kept.study.seeds else ""
    at = where([least], kept.study) if least.level != kept.regime.main else ""
    word = "estimate" if judged.word == "not run" else CHIPS[judged.word]
    return f"{word}{n}<br>{_brief(least)}{at}"


def columns() -> list[str]:
    """The reference runs of README's board: those that rules keep initialisations for, and others that have begun,
    where their plan asks for a column."""
    return [n for n, plan in PLANS.items() if plan.board and (n in REGIMES or runs.known(n))]


def existence() -> str:
    """P2's title speaks of subnetworks, its rule of distilled tickets: which others there are."""
    kept = [r for p in columns() if (r := runs.known(p)) and "barrier" in r.tables]
    if not kept:
        return ""
    return (
        f"P2 is judged for distilled tickets alone. Pruned arms with a mean barrier below {STABLE:g} points at its "
        f"level: {'; '.join(map(_stable, kept))}."
    )


def _short_of(e: Estimate) -> float:
    """How far a mean lies from where the claim wants it, on the wrong side."""
    return e.line - e.sign * e.difference.mean


def _brief(e: Estimate) -> str:
    name, remarks = SHORT[e.part.measure], "".join(f", {remark}" for remark in e.remarks)
    if e.other is None:
        return f"{name} of {ARMS[e.part.arm].title} {e.value.mean:.1f} (to be {e.part.rule} {e.part.than:g}){remarks}"
    return f"{name} {e.value.mean:.1f} against {e.other.mean:.1f} ({ARMS[e.part.than].title}){remarks}"


def _stable(kept: runs.Reference) -> str:
    """The pruned arms of a reference run whose mean barrier is below the 2-point rule at the level of the claims."""
    found = estimates(kept, "barrier", kept.regime.main)
    below = [
        f"*{ARMS[m].title}* {e.mean:.1f}" + (f" (n = {e.n})" if e.n < kept.planned else "")
        for m, e in found.items()
        if not ARMS[m].dense and e.mean < STABLE
    ]
    return f"{', '.join(below) or 'none'} ({kept.name})"


def means(kept: runs.Reference, measure: str, level: int) -> dict[str, float]:
    """The means of `estimates`."""
    return {arm: found.mean for arm, found in estimates(kept, measure, level).items()}


def estimates(kept: runs.Reference, measure: str, level: int) -> dict[str, Interval]:
    """The means of `Reference.values` over initialisations, with their intervals."""
    return {arm: interval(list(values.values())) for arm, values in kept.values(measure, level).items()}


MARKS = "<!-- board: made by python -m lotto.run claims -->", "<!-- end of board -->"
"""Between these lines of the README stands the board."""


def readme(text: str) -> str:
    """The README's text with its board made anew from the reference runs."""
    before, rest = text.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{short()}{MARKS[1]}{rest.split(MARKS[1])[1]}"
