"""The claims, their rules and their controls, fixed in code before any run; their verdicts from the tables.

A claim compares a method with a control, paired by initialisation, or with a threshold. It holds where the whole 95 % interval is on
its side, does not hold where the whole interval is on the other, and is undecided otherwise, or with fewer than three initialisations.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lotto.config import METHODS, ConfigError, Study
from lotto.stability import STABLE, accuracies, barriers
from lotto.stats import Interval, by_seed, interval, paired, resolution

PAPER = "McDermott & Parhi 2025, arXiv 2503.17905 (abstract)"
HERE = "control of this study"


@dataclass(frozen=True)
class Claim:
    """What is said, by whom, and what decides it."""

    notebook: str
    text: str
    """With {sparsity}, {k} and {margin} filled in."""
    source: str
    measure: Literal["accuracy", "barrier"]
    method: str
    rule: Literal["higher", "lower", "matches", "above", "below"]
    """Than the control; or not lower than it by more than the resolution; or than the threshold."""
    control: str
    """The method beside it; the decision is against the threshold for `above` and `below`."""
    levels: Literal["each", "last", "dense"] = "each"


CLAIMS = (
    Claim(
        "02",
        "at {sparsity} % sparsity, distilled pruning matches IMP rewound to step {k} (within {margin} points)",
        PAPER,
        "accuracy",
        "distilled",
        "matches",
        "imp-rewound",
    ),
    Claim(
        "02", "at {sparsity} % sparsity, distilled pruning beats a global random mask", HERE, "accuracy", "distilled", "higher", "random"
    ),
    Claim(
        "02",
        "at {sparsity} % sparsity, distilled images beat all real images in the same inner recipe",
        HERE,
        "accuracy",
        "distilled",
        "higher",
        "real-gentle",
    ),
    Claim(
        "02", "at {sparsity} % sparsity, distilled images beat equally many real images", HERE, "accuracy", "distilled", "higher", "subset"
    ),
    Claim(
        "02",
        "at {sparsity} % sparsity, a distilled mask first, then IMP, beats IMP alone",
        PAPER,
        "accuracy",
        "hybrid",
        "higher",
        "imp",
        "last",
    ),
    Claim(
        "03",
        "the dense initialisation is unstable (barrier above 2 points)",
        "Frankle et al. 2020, arXiv 1912.05671",
        "barrier",
        "dense",
        "above",
        "dense-rewound",
        "dense",
    ),
    Claim(
        "03",
        "the dense net is stable from step {k} on (barrier below 2 points)",
        "Frankle et al. 2020, arXiv 1912.05671",
        "barrier",
        "dense-rewound",
        "below",
        "dense",
        "dense",
    ),
    Claim(
        "03",
        "at {sparsity} % sparsity, the distilled subnetwork of the same initialisation is stable (barrier below 2 points)",
        PAPER,
        "barrier",
        "distilled",
        "below",
        "dense",
    ),
    Claim(
        "03",
        "at {sparsity} % sparsity, the distilled subnetwork is more stable than the dense net",
        PAPER,
        "barrier",
        "distilled",
        "lower",
        "dense",
    ),
    Claim(
        "03", "at {sparsity} % sparsity, the distilled subnetwork is more stable than IMP's", PAPER, "barrier", "distilled", "lower", "imp"
    ),
    Claim(
        "03",
        "at {sparsity} % sparsity, stability is owed to the distilled images: more stable than all real images in the same inner recipe",
        HERE,
        "barrier",
        "distilled",
        "lower",
        "real-gentle",
    ),
    Claim(
        "03",
        "at {sparsity} % sparsity, stability is owed to the gentle recipe: more stable than distilled images in IMP's recipe",
        HERE,
        "barrier",
        "distilled",
        "lower",
        "distilled-harsh",
    ),
    Claim(
        "03",
        "at {sparsity} % sparsity, distilled images give more stability than equally many real images",
        HERE,
        "barrier",
        "distilled",
        "lower",
        "subset",
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

    @property
    def sentence(self) -> str:
        """What the notebooks print."""
        unit = {"accuracy": "accuracy", "barrier": "error barrier"}[self.claim.measure]
        lost = f" ({self.lost} more did not train)" if self.lost else ""
        over = f"{self.value.n} initialisation{'s' if self.value.n != 1 else ''}{lost}"
        return (
            f"{self.text}: {self.verdict} here: {unit} {self.value} over {over}, "
            f"against {METHODS[self.claim.control].title} {self.control}."
        )


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
    table = tables[claim.measure]
    at = {m: 0 if METHODS[m].dense else level for m in (claim.method, claim.control)}
    values = {m: by_seed(table, m, at[m], claim.measure) for m in at}
    if any(table[(table.method == m) & (table.level == at[m])].empty for m in at):
        return None
    a, b = values[claim.method], values[claim.control]
    margin = resolution(test_images)
    if claim.rule in ("above", "below"):
        decided, threshold, used = interval(list(a.values())), 100 * STABLE, set(a)
    else:
        decided, threshold, used = paired(a, b), -margin if claim.rule == "matches" else 0.0, a.keys() & b.keys()
    text = claim.text.format(sparsity=f"{100 * (1 - study.density(level)):.1f}", k=study.rewind, margin=f"{margin:.1f}")
    return Verdict(
        claim,
        text,
        decide(claim.rule, decided, threshold),
        interval([a[s] for s in sorted(used)]),
        interval([b[s] for s in sorted(b) if s in used or claim.rule in ("above", "below")]),
        decided,
        study.seeds - len(used),
    )


def judge_all(notebook: str, tables: dict[str, Any], study: Study, test_images: int) -> list[Verdict]:
    """The verdicts on a notebook's claims, at the levels each is made for, in order."""
    which = {"each": study.levels, "last": study.levels[-1:], "dense": (0,)}
    found = [judge(c, tables, study, level, test_images) for c in CLAIMS if c.notebook == notebook for level in which[c.levels]]
    return [v for v in found if v is not None]


def verdicts(study: Study, notebook: str) -> list[Verdict]:
    """The verdicts on a notebook's claims for this study (its runs are computed or read)."""
    from lotto import data

    needed = {c.measure for c in CLAIMS if c.notebook == notebook}
    make = {"accuracy": accuracies, "barrier": barriers}
    return judge_all(notebook, {m: make[m](study) for m in needed}, study, len(data.load(study.dataset).test))


def as_table(found: list[Verdict]):
    """A row a verdict: claim, verdict, measure with interval, control with interval, what decided."""
    import pandas as pd

    columns = ["claim", "verdict", "measure", "value", "n", "control", "beside", "decided_by", "source"]
    return pd.DataFrame(
        [
            dict(
                claim=v.text,
                verdict=v.verdict,
                measure=v.claim.measure,
                value=str(v.value),
                n=v.value.n,
                control=METHODS[v.claim.control].title,
                beside=str(v.control),
                decided_by=str(v.decided_by),
                source=v.claim.source,
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


def save_reference(study: Study, name: str, folder: Path = REFERENCE) -> Path:
    """Write a study's table (a row a method, level and initialisation) and, beside it, what it was made from and with."""
    from lotto import data, parallel

    a, b = accuracies(study), barriers(study)
    table = a.merge(b.drop(columns="state"), on=["method", "level", "seed"])
    folder.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(folder / f"{name}.csv", index=False)
    import torch

    (folder / f"{name}.json").write_text(
        json.dumps(
            {
                "study": study.model_dump(mode="json"),
                "test_images": len(data.load(study.dataset).test),
                "device": parallel.device_name(),
                "torch": torch.__version__,
            },
            indent=1,
        )
        + "\n"
    )
    return folder / f"{name}.csv"


def reference(name: str, folder: Path = REFERENCE):
    """(table, study, test images) of a reference run kept in `notebooks/reference`; ConfigError names those there are."""
    import pandas as pd

    if not (folder / f"{name}.csv").exists():
        raise ConfigError(
            f"reference {name!r} is not there; {folder} has: {', '.join(sorted(p.stem for p in folder.glob('*.csv'))) or 'none'}"
        )
    about = json.loads((folder / f"{name}.json").read_text())
    return pd.read_csv(folder / f"{name}.csv"), Study(**about["study"]), about["test_images"]


def reference_verdicts(name: str, notebook: str) -> list[Verdict]:
    """The same claims judged by a reference run."""
    table, study, test_images = reference(name)
    return judge_all(notebook, {"accuracy": table, "barrier": table}, study, test_images)
