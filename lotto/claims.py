"""The claims, their rules and their controls, and their verdicts from the tables.

A claim compares a method with a control, paired by initialisation, or with a threshold. It holds where the whole 95 % interval is on
its side, does not hold where the whole interval is on the other, and is undecided otherwise, or with fewer than three initialisations.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lotto import anatomy, config, regimes, sharpness
from lotto.config import ConfigError, Study, nearest
from lotto.lab.arms import ARMS
from lotto.distill.judge import judgements, robustness
from lotto.stability import STABLE, accuracies, barriers
from lotto.stats import ALL, Interval, by_seed, capacity, interval, matching, paired, resolution

PAPER = "McDermott & Parhi 2025 (abstract)"
READING = "our reading of that abstract"
HERE = "control of this study"
FRANKLE = "Frankle et al. 2020"
DM = "premise; Zhao & Bilen 2023"


@dataclass(frozen=True)
class Measure:
    """What a claim is decided by: a column of one of TABLES."""

    title: str
    table: str
    column: str
    point: str | None = None
    """For `discarded`: where the dense net's Hessian is taken."""
    digits: int = 1
    """Decimals in print."""

    def rows(self, table: Any) -> Any:
        """The rows of the table that are meant."""
        return table[table.point == self.point] if self.point else table


MEASURES = {
    "accuracy": Measure("accuracy", "accuracy", "accuracy"),
    "barrier": Measure("error barrier", "barrier", "barrier"),
    "judged": Measure("accuracy of fresh nets", "judged", "accuracy"),
    "rounds": Measure("rounds of pruning", "matching", "rounds"),
    "trace": Measure("Hessian trace on the live weights", "curvature", "trace"),
    "rise": Measure("rise of the training loss 10 % of every filter's norm away (nats)", "steepness", "rise 0.1", digits=3),
    "loss": Measure("rank correlation of barrier and final training loss", "capacity", "loss", digits=2),
    "way": Measure("rank correlation of barrier and distance travelled", "capacity", "way", digits=2),
    "loss given way": Measure("rank correlation of barrier and training loss, given the distance", "capacity", "loss_given_way", digits=2),
    "way given loss": Measure("rank correlation of barrier and distance, given the training loss", "capacity", "way_given_loss", digits=2),
    **{
        f"{name} {point}": Measure(what.format(where), "discarded", column, point)
        for point, where in sharpness.POINTS.items()
        for name, what, column in (
            ("removed", "share of the Hessian trace of the dense net {} (%)", "trace"),
            ("excess", "share of the Hessian trace of the dense net {}, in points above chance", "trace_excess"),
        )
    },
}
"""By the name that a claim calls it."""

TABLES = {
    "accuracy": accuracies,
    "barrier": barriers,
    "judged": judgements,
    "robustness": robustness,
    "matching": matching,
    "discarded": sharpness.discarded,
    "curvature": sharpness.curvatures,
    "steepness": sharpness.steepnesses,
    "capacity": lambda study: capacity(anatomy.explained(study)),
    "inner": regimes.inner,
    "outer": regimes.outer,
    "time": regimes.over_time,
    "sets": regimes.sets,
}
"""What makes each table from a study."""


@dataclass(frozen=True)
class Claim:
    """What is said, by whom, and what decides it."""

    notebook: str
    text: str
    """With {sparsity}, {k}, {ipc}, {rounds} (the study's levels) and {margin} filled in."""
    source: str
    measure: str
    """A name of MEASURES."""
    method: str
    rule: Literal["higher", "lower", "matches", "above", "below"]
    """Than the control; or not lower than it by more than the resolution; or than the threshold."""
    control: str | None
    """The method beside it, or None; for `above` and `below` the decision is against the threshold, and it is only shown."""
    levels: Literal["each", "last", "dense", "ipcs", "once"] = "each"
    """At each level of pruning, at the last, for the dense net, at each number of images a class, or over all levels at once."""
    threshold: float = 100 * STABLE
    """For `above` and `below`."""
    headline: bool = False
    """Whether it stands in the table at the top of the README."""


_AT = "at {sparsity} % sparsity, "
_IMAGES = "distilled images beat equally many real images"
_MORE = _AT + "distilled pruning discards more of the curvature "
_LEFT = _AT + "what distilled pruning leaves, trained, has a smaller Hessian trace than "
_RISES = _AT + "around what distilled pruning leaves, trained, the loss rises less, filter-normalised, than around "
_LOW = _AT + "the lower barrier of distilled masks "
_HYBRID = _AT + "a distilled mask first, then IMP, beats "
_KEPT = "norms and biases left as the inner loop made them"
_CORE = ("reinit", "permuted")
_OTHERS = {
    "random-layerwise": "as many weights of each layer at random places",
    "reinit": "their mask over new initial weights",
    "permuted": "distilled images under wrong labels",
    "easy": "the easiest real images",
    "initial": "initial magnitude",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
}
CLAIMS = (
    Claim(
        "01",
        "at {ipc} a class, fresh nets learn more from distilled than from equally many real images",
        DM,
        "judged",
        "distilled",
        "higher",
        "subset",
        "ipcs",
    ),
    Claim(
        "01",
        "at {ipc} a class, fresh nets learn more from distilled than from noise images",
        HERE,
        "judged",
        "distilled",
        "higher",
        "noise",
        "ipcs",
    ),
    Claim(
        *("02", _AT + "distilled pruning matches IMP rewound to step {k} (is not lower by more than {margin} points)", PAPER),
        *("accuracy", "distilled", "matches", "imp-rewound"),
        headline=True,
    ),
    Claim("02", _AT + "distilled pruning beats a global random mask", HERE, "accuracy", "distilled", "higher", "random"),
    Claim(
        *("02", _AT + "distilled images beat all real images in the same inner recipe", HERE),
        *("accuracy", "distilled", "higher", "real-gentle"),
        headline=True,
    ),
    Claim("02", _AT + _IMAGES, HERE, "accuracy", "distilled", "higher", "subset"),
    Claim("02", _HYBRID + "IMP alone", PAPER, "accuracy", "hybrid", "higher", "imp", "last", headline=True),
    Claim(
        *("03", "the dense initialisation is unstable (barrier above 2 points)", FRANKLE),
        *("barrier", "dense", "above", "dense-rewound", "dense"),
        headline=True,
    ),
    Claim(
        *("03", "the dense net is stable from step {k} on (barrier below 2 points)", FRANKLE),
        *("barrier", "dense-rewound", "below", "dense", "dense"),
    ),
    Claim(
        *("03", _AT + "the distilled subnetwork of the same initialisation is stable (barrier below 2 points)", PAPER),
        *("barrier", "distilled", "below", "dense"),
        headline=True,
    ),
    Claim("03", _AT + "the distilled subnetwork is more stable than the dense net", READING, "barrier", "distilled", "lower", "dense"),
    Claim(
        *("03", _AT + "the distilled subnetwork is more stable than IMP's", READING, "barrier", "distilled", "lower", "imp"),
        headline=True,
    ),
    Claim(
        *("03", _AT + "the lower barrier is owed to the distilled images: more stable than all real images in the same inner recipe", HERE),
        *("barrier", "distilled", "lower", "real-gentle"),
        headline=True,
    ),
    Claim(
        *("03", _AT + "the lower barrier is owed to the gentle recipe: more stable than distilled images in IMP's recipe", HERE),
        *("barrier", "distilled", "lower", "distilled-harsh"),
        headline=True,
    ),
    Claim(
        *("03", _AT + "distilled images give a lower barrier than equally many real images", HERE),
        *("barrier", "distilled", "lower", "subset"),
    ),
    Claim(
        *("04", _MORE + "at initialisation than random removal of as many weights of each layer (above 0)", READING),
        *("excess init", "distilled", "above", "initial"),
        threshold=0.0,
        headline=True,
    ),
    Claim(
        *("04", _MORE + "of the trained dense net than random removal of as many weights of each layer (above 0)", READING),
        *("excess trained", "distilled", "above", "initial"),
        threshold=0.0,
        headline=True,
    ),
    Claim("04", _MORE + "at initialisation than initial magnitude does", HERE, "removed init", "distilled", "higher", "initial"),
    Claim("04", _MORE + "of the trained dense net than IMP does", HERE, "removed trained", "distilled", "higher", "imp"),
    Claim(
        *("04", _MORE + "at initialisation than all real images in the same inner recipe do", HERE),
        *("removed init", "distilled", "higher", "real-gentle"),
    ),
    Claim("04", _LEFT + "the dense net", READING, "trace", "distilled", "lower", "dense"),
    Claim("04", _LEFT + "what IMP leaves", READING, "trace", "distilled", "lower", "imp", headline=True),
    Claim("04", _LEFT + "what all real images leave in the same recipe", HERE, "trace", "distilled", "lower", "real-gentle", headline=True),
    Claim("04", _RISES + "the dense net", READING, "rise", "distilled", "lower", "dense"),
    Claim("04", _RISES + "what IMP leaves", READING, "rise", "distilled", "lower", "imp", headline=True),
    Claim("04", _RISES + "what all real images leave in the same recipe", HERE, "rise", "distilled", "lower", "real-gentle"),
    Claim("05", _HYBRID + "IMP alone", PAPER, "accuracy", "hybrid", "higher", "imp", headline=True),
    Claim(
        "05",
        _HYBRID + "all real images first, in the same recipe, then IMP",
        HERE,
        "accuracy",
        "hybrid",
        "higher",
        "hybrid-real",
        headline=True,
    ),
    Claim("05", _HYBRID + "going on with the distilled images", HERE, "accuracy", "hybrid", "higher", "distilled", headline=True),
    Claim("05", _HYBRID + "IMP rewound to step {k}", HERE, "accuracy", "hybrid", "higher", "imp-rewound"),
    Claim("05", _AT + "a distilled mask first, then IMP, is more stable than IMP alone", READING, "barrier", "hybrid", "lower", "imp"),
    Claim(
        *("05", "a distilled mask first, then IMP, matches the dense net for more rounds of pruning (of {rounds}) than IMP alone", PAPER),
        *("rounds", "hybrid", "higher", "imp", "once"),
        headline=True,
    ),
    Claim(
        *("05", "distilled pruning matches the dense net for more rounds of pruning (of {rounds}) than IMP alone", HERE),
        *("rounds", "distilled", "higher", "imp", "once"),
    ),
    Claim(
        *("06", _LOW + "needs the distilled images: all real images, in the same recipe, have a higher one", HERE),
        *("barrier", "real-gentle", "higher", "distilled"),
    ),
    Claim(
        *("06", _LOW + "needs few images: all real images have a higher one than as many real ones as there are distilled", HERE),
        *("barrier", "real-gentle", "higher", "subset"),
    ),
    Claim(
        *("06", _LOW + "needs a small learning rate: at the outer rate, in as many steps, it is higher", HERE),
        *("barrier", "distilled-fast", "higher", "distilled"),
        headline=True,
    ),
    Claim(
        *("06", _LOW + "needs a short inner loop: with the outer recipe's steps, at the gentle rate, it is higher", HERE),
        *("barrier", "distilled-long", "higher", "distilled"),
        headline=True,
    ),
    Claim("06", _LOW + f"is lower still with {_KEPT}", HERE, "barrier", "distilled-weights", "lower", "distilled"),
    Claim(
        *("06", _AT + f"distilled masks are stable with {_KEPT} (barrier below 2 points)", HERE),
        *("barrier", "distilled-weights", "below", "distilled"),
        headline=True,
    ),
    Claim(
        *("06", _AT + f"masks found with all real images, gently, are stable with {_KEPT} (barrier below 2 points)", HERE),
        *("barrier", "real-gentle-weights", "below", "real-gentle"),
        headline=True,
    ),
    *(
        Claim("06", _AT + f"distilled masks are more stable than {what}", HERE, "barrier", "distilled", "lower", m, headline=m in _CORE)
        for m, what in _OTHERS.items()
    ),
    *(
        Claim("06", _AT + f"distilled masks reach a higher accuracy than {what}", HERE, "accuracy", "distilled", "higher", m)
        for m, what in _OTHERS.items()
    ),
    Claim(
        *("06", "stability is lost capacity: over all arms, a lower barrier goes with a higher training loss (below 0)", HERE),
        *("loss", ALL, "below", None, "once"),
        threshold=0.0,
        headline=True,
    ),
    Claim(
        *("06", "stability is lost capacity also among tickets that travelled equally far (below 0)", HERE),
        *("loss given way", ALL, "below", None, "once"),
        threshold=0.0,
    ),
    Claim(
        *("06", "stability is a short way: over all arms, a lower barrier goes with a shorter distance travelled (above 0)", HERE),
        *("way", ALL, "above", None, "once"),
        threshold=0.0,
        headline=True,
    ),
    Claim(
        *(
            "06",
            "stability is a short way also among tickets that fit equally well: the way says what the training loss does not (above 0)",
            HERE,
        ),
        *("way given loss", ALL, "above", None, "once"),
        threshold=0.0,
        headline=True,
    ),
)
"""In the order in which the notebooks tell them. Two-digit `notebook`: where the sentence stands."""


@dataclass(frozen=True)
class Verdict:
    """A claim judged by a table."""

    claim: Claim
    text: str
    verdict: Literal["holds", "does not hold", "undecided"]
    value: Interval
    control: Interval
    decided_by: Interval
    """The paired difference, or the value itself against the threshold."""
    lost: int
    """Initialisations left out because the method or its control did not train."""
    at: str
    """Where in the table: "83.2 % sparsity", "10 a class", or nothing."""

    @property
    def brief(self) -> str:
        """The text without `at`."""
        return self.text.removeprefix(f"at {self.at}, ")

    @property
    def alone(self) -> bool:
        """Whether the value itself decides, against a threshold; else its difference from the control does."""
        return self.claim.rule in ("above", "below")

    @property
    def over(self) -> str:
        """How many initialisations, and how many are missing: an arm whose nets fail looks better by those that are left."""
        return f"n = {self.value.n}" + (f" of {self.value.n + self.lost} ({self.lost} did not train)" if self.lost else "")

    @property
    def sentence(self) -> str:
        """What the notebooks print."""
        measure = MEASURES[self.claim.measure]
        value, control, decided = (i.text(measure.digits) for i in (self.value, self.control, self.decided_by))
        beside = f", against {ARMS[self.claim.control].title} {control}" if self.claim.control else ""
        difference = "" if self.alone else f"; difference {decided}"
        unit = measure.title[0].upper() + measure.title[1:]
        return f"{self.text}: **{self.verdict}** here. {unit} {value}{beside}{difference}; {self.over}."


def decide(rule: str, found: Interval, threshold: float) -> Literal["holds", "does not hold", "undecided"]:
    """Where the whole interval lies: beyond the threshold in the rule's direction, on its other side, or across it."""
    if found.n < 3:
        return "undecided"
    above, below = found.low > threshold, found.high < threshold
    if rule in ("lower", "below"):
        above, below = below, above
    return "holds" if above else "does not hold" if below else "undecided"


def judge(claim: Claim, tables: dict[str, Any], study: Study, level: int, test_images: int) -> Verdict | None:
    """The verdict on a claim at a level, or None where the table has not both methods."""
    measure = MEASURES[claim.measure]
    table = measure.rows(tables[measure.table])
    at = {m: 0 if m == ALL or ARMS[m].dense else level for m in (claim.method, claim.control) if m}
    values = {m: by_seed(table, m, at[m], measure.column) for m in at}
    if any(table[(table.method == m) & (table.level == at[m])].empty for m in at):
        return None
    a, b = values[claim.method], values.get(claim.control, {})
    margin = resolution(test_images)
    alone = claim.rule in ("above", "below")
    if alone:
        decided, threshold, used = interval(list(a.values())), claim.threshold, set(a)
    else:
        decided, threshold, used = paired(a, b), -margin if claim.rule == "matches" else 0.0, a.keys() & b.keys()
    sparsity = "" if claim.levels == "ipcs" else f"{100 * (1 - study.density(level)):.1f}"
    where = f"{sparsity} % sparsity" if "{sparsity}" in claim.text else f"{level} a class" if "{ipc}" in claim.text else ""
    rounds = ", ".join(map(str, study.levels))
    text = claim.text.format(sparsity=sparsity, k=study.rewind, ipc=level, rounds=rounds, margin=f"{margin:.1f}")
    return Verdict(
        claim,
        text,
        decide(claim.rule, decided, threshold),
        interval([a[s] for s in sorted(used)]),
        interval([b[s] for s in sorted(b) if s in used or alone]),
        decided,
        study.seeds - len(used),
        where,
    )


def judge_all(notebook: str, tables: dict[str, Any], study: Study, test_images: int) -> list[Verdict]:
    """The verdicts on a notebook's claims that these tables (by name of TABLES) can decide, in order."""
    which = {"each": study.levels, "last": study.levels[-1:], "dense": (0,), "once": (0,), "ipcs": study.ipcs}
    made = [c for c in CLAIMS if c.notebook == notebook and MEASURES[c.measure].table in tables]
    found = [judge(c, tables, study, level, test_images) for c in made for level in which[c.levels]]
    return [v for v in found if v is not None]


def verdicts(study: Study, notebook: str) -> list[Verdict]:
    """The verdicts on a notebook's claims for this study (its runs are computed or read)."""
    from lotto import data

    needed = {MEASURES[c.measure].table for c in CLAIMS if c.notebook == notebook}
    return judge_all(notebook, {t: TABLES[t](study) for t in needed}, study, len(data.load(study.dataset).test))


def as_table(found: list[Verdict]):
    """A row a verdict: claim, verdict, measure with interval, control with interval, what decided."""
    import pandas as pd

    columns = ["claim", "verdict", "measure", "value", "n", "over", "control", "beside", "decided_by", "alone", "source", "brief", "at"]
    return pd.DataFrame(
        [
            dict(
                claim=v.text,
                verdict=v.verdict,
                measure=MEASURES[v.claim.measure].title,
                value=v.value.text(MEASURES[v.claim.measure].digits),
                n=v.value.n,
                over=v.over,
                control=ARMS[v.claim.control].title if v.claim.control else "0",
                beside=v.control.text(MEASURES[v.claim.measure].digits),
                decided_by=v.decided_by.text(MEASURES[v.claim.measure].digits),
                alone=v.alone,
                source=v.claim.source,
                brief=v.brief,
                at=v.at,
            )
            for v in found
        ],
        columns=columns,
    )


def regime(study: Study, table: Any) -> str:
    """The conditions under which all verdicts stand, with the dense net's fit: an under-fitted net is another regime."""
    dense = table[(table.method == "dense") & (table.state == "trained")]
    fit = "no dense net is among the methods"
    if len(dense):
        loss, accuracy = (interval(list(dense[c])).mean for c in ("train_loss", "accuracy"))
        fit = f"the dense net ends at training loss {loss:.3f} nats and accuracy {accuracy:.1f} %"
    return (
        f"{study.data}, {study.net} of width {study.width} ({study.norm} norm, {study.init} initialisation), {study.steps} steps of "
        f"SGD on batches of {study.batch} at peak learning rate {study.lr:g}; "
        f"gentle recipe: {study.inner_steps} steps at {study.inner_lr:g}; {fit}"
    )


REFERENCE = Path(__file__).resolve().parents[1] / "notebooks" / "reference"


@dataclass(frozen=True)
class Reference:
    """A longer run, kept as small tables in `notebooks/reference`."""

    name: str
    study: Study
    test_images: int
    tables: dict[str, Any]
    """By name of TABLES."""

    @property
    def origin(self) -> str:
        """What run it is, and the command that makes it, as Markdown."""
        plain = config.study(self.study.preset).model_dump(mode="json")
        given = {n: v for n, v in self.study.model_dump(mode="json").items() if v != plain[n]}
        words = [f"-p {n} {shlex.quote(v if isinstance(v, str) else json.dumps(v))}" for n, v in given.items()]
        preset = "" if self.study.preset == "digits" else f"--preset {self.study.preset} "
        call = f"python -m lotto.run reference {self.name} {preset}--tables {','.join(self.tables)} {' '.join(words)}"
        children = f"{self.study.children} children each" + (", all pairs" if self.study.children > 2 else "")
        what = f"Run *{self.name}*: {self.study.seeds} initialisations, {children}; not the run above. It was computed once, with"
        return f"{what}\n\n```\n{call}\n```\n\n"

    def verdicts(self, notebook: str) -> list[Verdict]:
        """The same claims judged by this run."""
        return judge_all(notebook, self.tables, self.study, self.test_images)


def save_reference(study: Study, name: str, tables: Sequence[str] = ("accuracy", "barrier"), folder: Path = REFERENCE) -> list[Path]:
    """Compute a study's tables and write each as `<name>-<table>.csv`, with what it was made from and with in `<name>.json`.

    ConfigError for a table that TABLES does not know.
    """
    import torch

    from lotto import data, parallel

    if unknown := [t for t in tables if t not in TABLES]:
        raise ConfigError(f"table {unknown[0]!r} is not known; {nearest(unknown[0], list(TABLES))}")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for t in tables:
        written.append(folder / f"{name}-{t}.csv")
        TABLES[t](study).round(4).to_csv(written[-1], index=False)
    about = {
        "study": study.model_dump(mode="json"),
        "test_images": len(data.load(study.dataset).test),
        "device": parallel.device_name(),
        "torch": torch.__version__,
    }
    (folder / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
    return written


def reference(name: str, folder: Path = REFERENCE) -> Reference:
    """A reference run kept in `notebooks/reference`; ConfigError names those there are."""
    import pandas as pd

    if not (folder / f"{name}.json").exists():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise ConfigError(f"reference {name!r} is not there; {folder} has: {known}")
    about = json.loads((folder / f"{name}.json").read_text())
    files = {t: folder / f"{name}-{t}.csv" for t in TABLES}
    tables = {t: pd.read_csv(f) for t, f in files.items() if f.exists()}
    return Reference(name, Study(**about["study"]), about["test_images"], tables)


RUNS = {"digits-10": ("01", "02", "03", "04"), "digits-5-high": ("05",), "digits-10-arms": ("06",), "cifar10-3-small": ("02", "03", "06")}
"""Reference run -> the notebooks whose claims it judges."""


def overview(runs: dict[str, list[Verdict]] | None = None, headlines: bool = False):
    """One table over all claims: claim, verdict, measure, mean with interval, n, control, source, and the run each row comes from.

    `runs`: title -> verdicts of runs at hand, told first; then every reference run. `headlines`: only the claims so marked.
    """
    import pandas as pd

    every = dict(runs or {})
    for name, notebooks in RUNS.items():
        kept = reference(name)
        title = f"{name} (reference)"
        every[title] = [v for notebook in notebooks for v in kept.verdicts(notebook)]
    parts = []
    for title, found in every.items():
        table = as_table([v for v in found if v.claim.headline or not headlines])
        table.insert(0, "run", title)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def digest(table: Any) -> str:
    """A table of `overview` as Markdown with one row a claim: run by run, its verdicts at all levels below each other, each with what
    decided it."""
    lines = ["| claim | measured by | source | here |", "|---|---|---|---|"]
    for (claim, source, measure), judged in table.groupby(["brief", "source", "measure"], sort=False):
        told = []
        for run, rows in judged.groupby("run", sort=False):
            told.append(f"*{run}*")
            for r in rows.itertuples():
                means = "" if r.alone else f"{r.value.split()[0]} against {r.beside.split()[0]}: "
                told.append(f"{r.at + ': ' if r.at else ''}**{r.verdict}**, {means}{r.decided_by}, {r.over}")
        lines.append(f"| {claim} | {measure} | {source} | {'<br>'.join(told)} |")
    return "\n".join(lines) + "\n"


def markdown(table: Any) -> str:
    """A table of `as_table` or `overview` as Markdown: nothing is cut short, and pages without scripts show it."""
    runs = "run" in table
    head = (["run"] if runs else []) + ["claim", "source", "here", "measured", "against", "decided by"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in table.itertuples():
        beside = f"{r.control}: {r.beside}" if r.beside != "none" else r.control
        decided = ("" if r.alone else "difference ") + r.decided_by
        cells = [r.claim, r.source, f"**{r.verdict}**", f"{r.measure} {r.value}, {r.over}", beside, decided]
        lines.append("| " + " | ".join([*([r.run] if runs else []), *cells]) + " |")
    return "\n".join(lines) + "\n"
