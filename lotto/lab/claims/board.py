"""Boards: the claims in a few short rows, for a notebook, the README and the page of all claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lotto.lab.claims import plans, runs
from lotto.lab.claims.judge import SHORT, Estimate, Judged, agrees, judge
from lotto.lab.claims.rules import CLAIMS, REGIMES
from lotto.lab.study import Study

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


def rows(tables: dict[str, Any], study: Study, classes: int, notebook: str | None = None) -> list[dict[str, Any]]:
    """The board of a run: one row per claim, with the run's estimates beside those of the preset's reference run.

    `agrees`: whether each estimate is one that the reference leads one to expect (`judge.agrees`), at the same level.
    Words stand only under the reference, for a run of a few initialisations has none. `compared`: `comparisons`, in
    numbers; all else is text.
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
                "agrees": _agreement(mine, other) if other else "-",
                "but": mine.twin.text() if mine.twin else "-",
                "compared": comparisons(mine, other, study),
            }
        )
    return found


def comparisons(mine: Judged, theirs: Judged | None, study: Study) -> list[dict[str, Any]]:
    """Every comparison of a claim in numbers: `what` and `where` it is, the `line` to exceed, the difference of this
    run (`here`) and of the reference at the same level (or None), each as mean, low, high and initialisations and
    turned so that the claim lies to the right, and whether they agree (None: cannot be said)."""
    known = {e.part: e for e in theirs.parts} if theirs else {}
    found = []
    for e in mine.parts:
        other = known.get(e.part)
        other = other if other and other.level == e.level and other.difference.mean is not None else None
        found.append(
            {
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


def told(judged: Judged, study: Study) -> str:
    """The comparisons of a claim, measured, and at which sparsity."""
    return ("; ".join(e.text() for e in judged.parts) + where(judged.parts, study)) or "not run"


def where(parts: Sequence[Estimate], study: Study) -> str:
    """The sparsities at which comparisons are made, as " (97.2 % sparse)"; nothing for sets and dense nets alone."""
    levels = sorted({e.level for e in parts if e.part.at in ("main", "fine", "high")})
    return f" ({', '.join(f'{100 - 100 * study.density(at):.1f}' for at in levels)} % sparse)" if levels else ""


def _agreement(mine: Judged, theirs: Judged) -> str:
    known = {e.part: e for e in theirs.parts}
    # at another sparsity the reference says nothing
    found = [agrees(e, known[e.part]) for e in mine.parts if e.part in known and e.level == known[e.part].level]
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
            lines.append(f"- {j.claim.id}, {j.claim.text}: its arms were not run here.")
            continue
        side = (
            "on the claim's side"
            if j.fits
            else "not on the claim's side"
            if len(j.parts) == 1
            else "not all on the claim's side"
        )
        absent, every = len(j.claim.parts) - len(j.parts), len(j.claim.parts)
        side += f"; {absent} of its {every} comparisons were not run here" if absent else ""
        lines.append(
            f"- {j.claim.id}, {j.claim.text}: {told(j, study)}. Over {j.n} initialisation{'s' if j.n > 1 else ''} the "
            f"means are {side}."
        )
    return "\n".join(lines)


def short() -> str:
    """README's board: the primary claims, in each regime the word and what it rests on."""
    kept = {p: runs.known(p) for p in REGIMES}
    judged = {p: {j.claim.id: j for j in r.judged()} for p, r in kept.items() if r}
    head = ["claim", *REGIMES]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for claim in (c for c in CLAIMS if c.primary):
        cells = [f"{claim.id} {claim.short}"]
        for p in REGIMES:
            j = judged.get(p, {}).get(claim.id)
            at = where(j.parts, kept[p].study) if j else ""
            cells.append(
                f"{CHIPS[j.word]}, n = {j.n}{at}<br>{'<br>'.join(map(_brief, j.parts))}"
                if j and j.parts
                else "not run yet"
            )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _brief(e: Estimate) -> str:
    from lotto.lab.arms import ARMS

    name = SHORT[e.part.measure]
    if e.other is None:
        return f"{name} of {ARMS[e.part.arm].title} {e.value.mean:.1f}"
    return f"{name} {e.value.mean:.1f} against {e.other.mean:.1f} ({ARMS[e.part.than].title})"


MARKS = "<!-- board: made by python -m lotto.run claims -->", "<!-- end of board -->"
"""Between these lines of the README stands the board."""


def readme(text: str) -> str:
    """The README's text with its board made anew from the reference runs."""
    before, rest = text.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{short()}{MARKS[1]}{rest.split(MARKS[1])[1]}"


def page() -> str:
    """The page of all claims: every run, every comparison with interval, twin and control, as Markdown."""
    parts = ["# Claims and what the reference runs say of them\n"]
    parts += ["Made by `python -m lotto.run claims`; rules in `lotto/lab/claims/rules.py`.\n"]
    parts += ["\n".join(f"- **{w}**: {what}." for w, what in WORDS.items()) + "\n"]
    for name in plans.PLANS:
        if not (runs.FOLDER / f"{name}.json").exists():
            parts.append(f"## {name}\n\nNot run yet.\n")
            continue
        kept = runs.reference(name)
        parts.append(f"## {name}\n\n{kept.origin}\n")
        for j in kept.judged():
            p = f", p = {j.p:.3g} (Holm)" if j.p is not None else ""
            primary = "primary" if j.claim.primary else "exploratory"
            said = f"{j.claim.text[0].upper()}{j.claim.text[1:]}"
            lines = [f"### {j.claim.id} {j.claim.short}: {j.word}{p}", f"{said}. *{j.claim.source}; {primary}.*"]
            lines += [f"- {e.text()}{where([e], kept.study)}, n = {e.difference.n}" for e in j.parts]
            lines += [
                f"- control, must come out: {e.text()}{where([e], kept.study)}, n = {e.difference.n}"
                for e in j.controls
            ]
            lines += (
                [f"- beside it: {j.twin.text()}{where([j.twin], kept.study)}, n = {j.twin.difference.n}"]
                if j.twin
                else []
            )
            parts.append("\n".join([lines[0], "", lines[1], "", *(lines[2:] or ["- not run"])]) + "\n")
    return "\n".join(parts)
