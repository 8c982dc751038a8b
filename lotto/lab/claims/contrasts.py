"""What a reference run says beyond its claims: the factorial's main effects, and masks and norms pulled apart.

Estimates by both kinds of batch-norm statistics, as text; no rule was fixed for them, so they have no words."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from lotto.lab.arms import ARMS, FACTORIAL, IMAGES
from lotto.lab.claims import runs
from lotto.lab.claims.judge import estimate
from lotto.lab.claims.rules import Part
from lotto.stats import Interval, interval

FACTORS = ("images", "length", "rate", "rewinding")
"""Of an arm of the factorial, and of its inner loops."""

HELD = {
    "images": {f"{length} loops": ("length", length) for length in ("short", "long")},
    **{
        factor: {f"{name} images": ("images", kind) for kind, name in IMAGES.items()}
        for factor in ("length", "rewinding")
    },
}
"""Factor -> parts of the factorial in which it is told alone too, each by the factor and the value that are held."""

EFFECTS = (
    "Exploratory: no rule was fixed for these, and intervals are not corrected for their number. What one factor of "
    "the inner loops changes in the barrier, all others held equal: the mean over the pairs of arms that differ in it "
    "alone, with its 95 % interval over initialisations; below 0 the first value is the more stable. "
    "A mean hides where factors act together."
)


def main_effects(kept: runs.Reference) -> list[dict[str, str]]:
    """A row for every two values of a factor, over all pairs of arms and over those of each part that HELD names: the
    difference of their barriers at each level, by both statistics. None before the factorial has come to three
    initialisations."""
    batch = kept.facts["batches"].get("factorial")
    if not batch or len(batch["done"]) < 3:
        return []
    arms = {tuple(getattr(ARMS[m], f) for f in FACTORS): m for m in FACTORIAL}
    readings = {"": kept, ", interpolated": kept.interpolated}
    found = {
        kept.study.sparse(level) + what: run.values("barrier", level) if "barrier" in run.tables else {}
        for level in batch["levels"]
        for what, run in readings.items()
    }
    rows = []
    for at, factor in enumerate(FACTORS):
        of = dict.fromkeys(v[at] for v in arms)
        kinds = itertools.product(("", *HELD.get(factor, ())), itertools.combinations(of, 2))
        for part, (one, other) in kinds:
            held, value = HELD[factor][part] if part else ("", None)
            some = {v: m for v, m in arms.items() if v[at] == one and (not part or getattr(ARMS[m], held) == value)}
            pairs = [(m, arms[(*v[:at], other, *v[at + 1 :])]) for v, m in some.items()]
            named = " minus ".join(IMAGES.get(v, v) for v in (one, other)) + (f", {part}" if part else "")
            row = {"factor": factor, "first minus second": named, "pairs": str(len(pairs))}
            rows.append(row | {n: str(_effect(values, pairs)) if values else "-" for n, values in found.items()})
    return rows


def _effect(values: Mapping[str, Mapping[int, float]], pairs: Sequence[tuple[str, str]]) -> Interval:
    """The mean over pairs of arms of the difference of their values, over the initialisations that have all arms."""
    seeds = sorted(set.intersection(*(set(values.get(m, ())) for pair in pairs for m in pair)))
    return interval([sum(values[a][s] - values[b][s] for a, b in pairs) / len(pairs) for s in seeds])


PULLED_APART = (
    ("imp", "imp-mask"),
    ("imp-mask", "dense"),
    ("distilled", "distilled-mask"),
    ("distilled-mask", "dense"),
    ("distilled-mask", "imp-mask"),
    ("distilled-mask", "subset-mask"),
    ("distilled-mask", "initial"),
    ("imp-mask", "initial"),
    ("initial", "dense"),
    ("distilled", "random-filterwise"),
    ("distilled-all", "random-layerwise-all"),
    ("distilled-all", "reinit-all"),
)
"""Arms that differ in the mask, in the norms, or in the loops behind them."""

AFTER_THE_WORDS = (
    "Exploratory: these comparisons were chosen after the words were given, on the same initialisations; intervals are "
    "not corrected for their number. The first arm's mean, the second's, and the difference with its 95 % interval."
)


def pulled_apart(kept: runs.Reference) -> dict[tuple[str, str], dict[str, str]]:
    """Those pairs of PULLED_APART that the run has at the level of the claims -> their barriers by both statistics, and
    their accuracies."""
    levels, guess, recalibrated = kept.regime, 100 / kept.facts["classes"], kept.tables
    tables = {"barrier": recalibrated, "barrier, interpolated": kept.interpolated.tables, "accuracy": recalibrated}
    rows = {}
    for arm, than in PULLED_APART:
        found = {n: estimate(Part(n.split(",")[0], arm, "better", than), t, levels, guess) for n, t in tables.items()}
        if found["barrier"]:
            told = {
                n: f"{e.value.mean:.1f}, {e.other.mean:.1f}: {e.difference}" if e else "-" for n, e in found.items()
            }
            rows[arm, than] = {"arms": f"*{ARMS[arm].title}* minus *{ARMS[than].title}*", **told}
    return rows
