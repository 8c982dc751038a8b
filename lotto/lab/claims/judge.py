"""From tables to estimates, and from five initialisations on to words: what `rules.py` says, computed."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lotto.lab.arms import ARMS
from lotto.lab.claims import rules
from lotto.lab.claims.rules import ALPHA, CLAIMS, ENOUGH, MEASURES, Claim, Part, Regime
from lotto.lab.study import Study
from lotto.lab.tables import failures
from lotto.stats import Interval, interval


@functools.cache
def digest() -> str:
    """SHA-256 of the bytes of `rules.py`."""
    return hashlib.sha256(Path(rules.__file__).read_bytes()).hexdigest()


def regime(study: Study) -> Regime:
    """The levels at which claims are judged: the preset's, where the study has them; else the study's last."""
    known = rules.REGIMES.get(study.preset)
    main = known.main if known and known.main in study.levels else study.levels[-1]
    fine = known.fine if known and known.fine in study.levels else main
    high = known.high if known and known.high in study.levels else study.levels[-1]
    return Regime(main, fine, high, study.first_seed, study.seeds)


def counted(
    table: Any, measure: str, arm: str, level: int, guess: float, worst: float | None = None
) -> dict[int, float]:
    """Initialisation -> value of a measure, with nets that did not train counted as what they are.

    guess: accuracy of guessing, in percent. A net without an accuracy (dead, diverged) has that; one that did not train
    has the barrier `worst`, or without it the highest there can be, 100 - guess. Values that are missing for another
    reason stay missing.
    """
    what = MEASURES[measure]
    rows = table[(table.method == arm) & (table.level == level)]
    rows = rows[rows.point == what.point] if what.point else rows
    found: dict[int, float] = {}
    for r in rows.to_dict("records"):
        value = r.get(what.column)
        failed = r.get("state", "trained") != "trained"
        if what.column == "barrier" and failed:
            value = 100 - guess if worst is None else worst
        elif what.column == "accuracy" and failed and (value is None or math.isnan(value)):
            value = guess
        if value is not None and not math.isnan(value) and not (what.logarithm and value <= 0):
            found[int(r["seed"])] = math.log10(value) if what.logarithm else float(value)
    return found


SHORT = {
    "accuracy": "accuracy",
    "barrier": "barrier",
    "teaches": "accuracy",
    "excess": "curvature removed, above chance,",
    "removed": "curvature removed (%)",
    "curvature": "log10 trace",
}
"""Measure -> its name before a number."""


@dataclass(frozen=True)
class Estimate:
    """One comparison of a claim, measured."""

    part: Part
    level: int
    value: Interval
    """Of the arm."""
    other: Interval | None
    """Of the arm beside it; None beside a number."""
    difference: Interval
    """Of the arm minus the other, paired by initialisation, or minus the number."""
    spread: float
    """Standard deviation of the difference over initialisations."""
    untrained: tuple[int, int]
    """(did not train, all): initialisations of the arm."""
    others: tuple[int, int] = (0, 0)
    """The same of the arm beside it."""

    @property
    def sign(self) -> int:
        """1 where a larger difference speaks for the comparison, -1 where a smaller does."""
        up = {"above": True, "below": False}.get(self.part.rule, MEASURES[self.part.measure].better == "higher")
        return 1 if up != (self.part.rule == "worse") else -1

    @property
    def line(self) -> float:
        """What the difference, times `sign`, must exceed."""
        return -self.part.margin if self.part.rule == "not worse" else self.part.margin

    def p(self, holds: bool = True) -> float:
        """One-sided p that the comparison comes out (or, `holds` False, that it fails); 1 below two initialisations."""
        n, distance = self.difference.n, self.sign * (self.difference.mean or 0.0) - self.line
        if n < 2:
            return 1.0
        distance = distance if holds else -distance
        error = self.spread / math.sqrt(n)
        if error == 0:  # all alike
            return 0.0 if distance > 0 else 1.0
        from scipy.stats import t

        return float(t.sf(distance / error, n - 1))

    @property
    def fits(self) -> bool:
        """Whether the mean lies on the claim's side."""
        return self.difference.mean is not None and self.sign * self.difference.mean > self.line

    def named(self) -> str:
        """What is compared, in a few words."""
        part, arm = self.part, ARMS[self.part.arm].title
        told = f"{arm} | {ARMS[part.than].title}" if isinstance(part.than, str) else f"{arm} {part.rule} {part.than:g}"
        return f"{SHORT[part.measure].strip(',')}: {told}"

    def text(self) -> str:
        """Arm, other arm, difference with its interval, and remarks."""
        arm, digits = ARMS[self.part.arm].title, 2 if MEASURES[self.part.measure].logarithm else 1
        if self.difference.mean is None:
            return f"{arm}: nothing measured"
        unit = f"{SHORT[self.part.measure]} "
        beside = ARMS[self.part.than].title if self.other else ""
        told = f"{unit}{arm} {self.value.text(digits)}"
        if self.other:
            told = (
                f"{unit}{arm} {self.value.mean:.{digits}f}, {beside} {self.other.mean:.{digits}f}: "
                f"{self.difference.text(digits)}"
            )
        return told + "".join(f" ({remark})" for remark in self.remarks)

    @property
    def remarks(self) -> list[str]:
        """What a mean would hide: nets that did not train, and that the interval of the difference says worse."""
        lost = [(self.part.arm, self.untrained), (self.part.than, self.others)]
        lost = [f"{ARMS[name].title}: {some} of {every} did not train" for name, (some, every) in lost if some]
        found, low, high = ["; ".join(lost)] if lost else [], self.difference.low, self.difference.high
        if self.part.rule in ("better", "not worse") and self.other and low is not None:
            worst, best = (low, high) if self.sign > 0 else (-high, -low)
            if best < 0:
                within = " within the margin"
                found.append(
                    f"worse,{within}" if worst > self.line else f"worse, its mean{within}" if self.fits else "worse"
                )
        return found


@dataclass(frozen=True)
class Judged:
    """A claim with its comparisons measured and, where there may be one, its word."""

    claim: Claim
    parts: tuple[Estimate, ...]
    twin: Estimate | None
    controls: tuple[Estimate, ...]
    word: str
    """holds, fails, undecided, cannot tell; or estimate (too few initialisations), exploratory, not run."""
    p: float | None = None
    """Two-sided, corrected over the regime's primary claims; None where there is no word."""

    @property
    def n(self) -> int:
        """Initialisations, the fewest of any comparison."""
        return min((e.difference.n for e in self.parts), default=0)

    @property
    def fits(self) -> bool:
        """Whether all means lie on the claim's side."""
        return all(e.fits for e in self.parts)


def estimate(part: Part, tables: Mapping[str, Any], levels: Regime, guess: float) -> Estimate | None:
    """A comparison measured from tables; None where they do not have it."""
    table = tables.get(MEASURES[part.measure].table)
    if table is None or not len(table):
        return None
    level = {"dense": 0, "main": levels.main, "fine": levels.fine, "high": levels.high}.get(part.at, part.at)
    # a net that did not train is no unstable net
    mine = counted(table, part.measure, part.arm, level, guess, worst=0.0 if part.rule == "above" else None)
    if isinstance(part.than, str):
        beside = 0 if ARMS[part.than].dense else level
        theirs, lost = counted(table, part.measure, part.than, beside, guess), failures(table, part.than, beside)
        shared = sorted(mine.keys() & theirs.keys())
        differences, other = [mine[s] - theirs[s] for s in shared], interval([theirs[s] for s in shared])
        mine = {s: mine[s] for s in shared}
    else:
        differences, other, lost = [v - part.than for v in mine.values()], None, (0, 0)
    if not differences:
        return None
    found = interval(differences)
    spread = math.sqrt(math.fsum((d - found.mean) ** 2 for d in differences) / max(1, len(differences) - 1))
    return Estimate(
        part, level, interval(list(mine.values())), other, found, spread, failures(table, part.arm, level), lost
    )


def judge(
    tables: Mapping[str, Any],
    study: Study,
    classes: int,
    notebook: str | None = None,
    confirmatory: bool = False,
    planned: int = ENOUGH,
    levels: Regime | None = None,
) -> list[Judged]:
    """The claims of a notebook (None: all), judged from tables by name.

    confirmatory: whether words may be given, as in a reference run made under today's rules on initialisations kept for
    it. Without it primary claims are estimates; so are those that do not have all the `planned` initialisations yet, as
    a look on the way is no test. levels: where they are judged (None: `regime`). Holm's correction is over all primary
    claims, run or not.
    """
    levels, guess = levels or regime(study), 100 / classes
    found = []
    for claim in CLAIMS:
        parts = [estimate(p, tables, levels, guess) for p in claim.parts]
        controls = [estimate(p, tables, levels, guess) for p in claim.controls]
        twin = estimate(claim.twin, tables, levels, guess) if claim.twin else None
        whole = None not in parts
        found.append(
            (claim, tuple(p for p in parts if p), twin, tuple(c for c in controls if c), whole and None not in controls)
        )
    words = _words(found, max(ENOUGH, planned)) if confirmatory else {}
    judged = []
    for claim, parts, twin, controls, whole in found:
        if notebook and claim.notebook != notebook:
            continue
        plain = "not run" if len(parts) < len(claim.parts) else "exploratory" if not claim.primary else "estimate"
        word, p = words.get(claim.id, (plain, None)) if whole else (plain, None)
        judged.append(Judged(claim, parts, twin, controls, word, p))
    return judged


def _words(found: Sequence[tuple], enough: int) -> dict[str, tuple[str, float]]:
    """Claim -> (word, corrected p), for the primary claims with enough initialisations."""
    ps: dict[str, tuple[float, bool]] = {}
    for claim, parts, _, _, whole in found:
        if claim.primary and whole and min(e.difference.n for e in parts) >= enough:
            yes, no = max(e.p() for e in parts), min(1.0, len(parts) * min(e.p(holds=False) for e in parts))
            ps[claim.id] = (min(1.0, 2 * min(yes, no)), yes <= no)
    corrected = holm({c.id: ps.get(c.id, (1.0, False))[0] for c, *_ in found if c.primary})
    words = {}
    for claim, _, _, controls, _ in found:
        if claim.id in ps:
            word = "undecided" if corrected[claim.id] > ALPHA else "holds" if ps[claim.id][1] else "fails"
            # where a mask without any of the method's merit does as well, "holds" would say nothing
            if word == "holds" and any(c.p() > ALPHA for c in controls):
                word = "cannot tell"
            words[claim.id] = (word, corrected[claim.id])
    return words


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Holm's (1979) step-down correction: p-values that may each be held against the error rate of the whole family.

    >>> {k: round(p, 10) for k, p in holm({"a": 0.01, "b": 0.04, "c": 0.03}).items()}
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    corrected, so_far = {}, 0.0
    for i, (name, p) in enumerate(sorted(ps.items(), key=lambda item: item[1])):
        so_far = max(so_far, min(1.0, (len(ps) - i) * p))
        corrected[name] = so_far
    return corrected


def agrees(mine: Estimate, theirs: Estimate, level: float = 0.95) -> bool | None:
    """Whether a run's mean is one that the reference leads one to expect: within the `level` prediction interval, by
    the reference's mean and spread, for the mean of as many fresh initialisations. None where the reference has fewer
    than three. Its spread is taken as the run's: where it is of means over more pairs of children, a barrier agrees
    less often than that."""
    n, m = theirs.difference.n, mine.difference.n
    if n < 3 or m < 1:
        return None
    from scipy.stats import t

    reach = float(t.ppf((1 + level) / 2, n - 1)) * theirs.spread * math.sqrt(1 / n + 1 / m)
    return abs(mine.difference.mean - theirs.difference.mean) <= reach
