"""CLAIMS.md: every claim beside every reference run, with intervals, twins and controls, and every arm that was run."""

from __future__ import annotations

from lotto.lab.arms import ARMS
from lotto.lab.claims import plans, runs
from lotto.lab.claims.board import WORDS, existence, markdown, means, where
from lotto.lab.claims.judge import SHORT


def page() -> str:
    """The page of all claims: every run, every comparison with interval, twin and control, as Markdown."""
    parts = ["# Claims and what the reference runs say of them\n"]
    parts += ["Made by `python -m lotto.run claims`; rules in `lotto/lab/claims/rules.py`.\n"]
    parts += ["\n".join(f"- **{w}**: {what}." for w, what in WORDS.items()) + "\n"]
    parts += [f"Sources say where a claim comes from; its comparators and margins are this study's. {existence()}\n"]
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
        parts.append(
            "### Every arm\n\nMeans of what the primary claims measure, at the sparsity named; dense nets as they are. "
            f"What did not train is counted as above.\n\n{every_arm(kept)}"
        )
    return "\n".join(parts)


def every_arm(kept: runs.Reference) -> str:
    """A Markdown table of a reference run: the mean over initialisations of every measure that its primary claims take,
    at each of their levels, for every arm that was run there (dense nets: at theirs)."""
    judged = [j for j in kept.judged() if j.claim.primary]
    taken = [e for j in judged for e in (*j.parts, *filter(None, [j.twin])) if e.part.at in ("main", "fine", "high")]
    pairs = sorted({(e.level, e.part.measure) for e in taken})
    columns = {
        f"{SHORT[measure].strip(',')}, {100 - 100 * kept.study.density(level):.1f} %": means(kept, measure, level)
        for level, measure in pairs
    }
    arms = [arm for arm in ARMS if any(arm in found for found in columns.values())]
    cells = [{n: f"{found[arm]:.1f}" if arm in found else "" for n, found in columns.items()} for arm in arms]
    return markdown([{"arm": ARMS[arm].title} | row for arm, row in zip(arms, cells, strict=True)])
