"""The README's code runs as it stands, its commands exist, and what FINDINGS.md tells is what the reference runs say."""

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

from lotto.lab.arms import ARMS
from lotto.lab.claims.rules import STABLE

CLONE = Path(__file__).resolve().parents[1]
README = (CLONE / "README.md").read_text()
REFERENCE = CLONE / "notebooks" / "reference"
FINDINGS = " ".join((REFERENCE / "FINDINGS.md").read_text().split())
FITTED = "cifar10-small-fitted"
LOOPS = f"{FITTED}-loops", "cifar10-small-loops"
SECTIONS = {
    "digits": "## Digits",
    "cifar10-small": "## Small CIFAR-10",
    FITTED: "## Small CIFAR-10, fitted",
    "cifar10-brief": "## Full size",
}


def kept_with_its_pilot():
    """The pilot, what repeats it, and all their initialisations as one run."""
    from lotto.lab.claims import runs

    first, second = runs.reference(f"{FITTED}-pilot"), runs.reference(FITTED)
    whole = {t: pd.concat([first.tables[t], table]) for t, table in second.tables.items()}
    return first, second, dataclasses.replace(second, tables=whole)


def findings(name):
    """What FINDINGS.md says of a reference run, its lines joined."""
    return FINDINGS.split(f" {SECTIONS[name]} ")[1].split(" ## ")[0]


def test_the_ten_lines_run(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README.split("### What of yours works")[0], re.S)
    code = [line for line in block.splitlines() if line.strip() and not line.startswith(("import", "from", "#"))]
    assert len(code) <= 10
    exec(compile(block, "README.md", "exec"), {})
    assert re.search(r"barrier \d+\.\d points", capsys.readouterr().out)


def test_options_named_in_the_readme_exist():

    from lotto import run

    known = set(re.findall(r"--[a-z-]+", run.parser().format_help()))
    for line in re.findall(r"^\./run_all\.sh(?! test| lab).*$", README, re.M):
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line


def test_links_lead_somewhere():
    for page in (CLONE / "README.md", REFERENCE / "FINDINGS.md"):
        for target in re.findall(r"\]\(((?!http)[^)]+)\)", page.read_text()):
            name, _, heading = target.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), (page.name, target)
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.M) if heading else []
            assert heading in ("", *(h.lower().replace(",", "").replace(" ", "-") for h in headings)), target


@pytest.mark.parametrize("name", SECTIONS)
def test_every_number_of_the_findings_is_some_mean_of_its_reference_run(name):
    from lotto.lab.claims import board, runs

    kept = runs.reference(name)
    levels = sorted(set(kept.tables["barrier"].level) - {0})
    told_of = (*kept_with_its_pilot(), *map(runs.reference, LOOPS)) if name == FITTED else (kept,)
    means = {
        f"{v:.1f}"
        for kept in told_of
        for run, m in readings(kept)
        for at in levels
        for v in board.means(run, m, at).values()
    }
    if "judged" in kept.tables:
        means |= {f"{v:.1f}" for ipc in (1, 10) for v in board.means(kept, "teaches", ipc).values()}
    told = re.sub(r"[\d.]+ (times|million|%)", "", findings(name))  # of lengths, sizes and sparsities
    told = re.sub(DIFFERENCE + r"|\(([\d to]+; )?[\d.]+ and [\d.]+ there\)", "", told)  # there: in another run
    numbers = set(re.findall(r"\d+\.\d\b", told))
    assert len(numbers) > 5 and numbers <= means, sorted(numbers - means)


def test_the_readme_tells_means_of_the_reference_runs():
    from lotto.lab.claims import board, runs

    told = README[README.index("What was found") : README.index("![")]
    kept = [runs.reference(n) for n in ("digits", "cifar10-small", FITTED, f"{FITTED}-pilot", *LOOPS)]
    means = {f"{v:.1f}" for run in kept for m in ("accuracy", "barrier") for v in board.means(run, m, 8).values()}
    means |= {f"{v:.1f}" for run, measure in readings(kept[1]) for v in board.means(run, measure, 4).values()}
    sparsities = {kept[0].study.sparse(level).removesuffix(" %") for level in (2, 4, 6, 8, 10, 12)}
    numbers = set(re.findall(r"\d+\.\d\b", told)) - sparsities
    assert len(numbers) > 3 and numbers <= means, sorted(numbers - means)


DIFFERENCE = r"-?\d+\.\d \[-?\d+\.\d, -?\d+\.\d\]"
DIFFERENCES = {
    "digits": [
        ("distilled", "dense", 8, "accuracy"),
        ("distilled", "imp-rewound", 8, "accuracy"),
        ("distilled", "dense", 8),
        ("distilled", "herding", 8),
        ("herding", "dense", 8),
        ("noise", "random-layerwise", 8),
        ("permuted", "distilled", 8),
        ("initial", "dense", 8),
        ("initial", "distilled", 8),
        ("initial", "distilled", 8, "accuracy"),
        ("initial", "distilled-mask", 8),
        ("initial", "distilled-mask", 8, "accuracy"),
        ("initial", "imp-mask", 8),
        ("distilled", "dense", 6),
        ("distilled", "dense", 12),
        ("random-layerwise", "dense", 4),
        ("distilled", "random-layerwise", 4),
        ("distilled", "random-layerwise", 6),
        ("hybrid", "imp", 12),
        "outer minus gentle",
        "all real minus distilled",
        "all real minus random real",
        "long minus short",
        "long minus short, all real images",
        "long minus short, distilled images",
        "long minus short, random real images",
        "all real minus distilled, long loops",
        "all real minus random real, short loops",
        "all real minus distilled, short loops",
        "distilled minus random real",
        "weights minus all",
        "weights minus all, all real images",
        ("subset-long", "subset-long-all", 8),
        ("imp-short", "imp-short-all", 8),
        ("dense", "imp", 8),
        ("dense", "imp-mask", 8),
        ("dense", "distilled-mask", 8),
        ("imp-mask", "distilled-mask", 8),
        ("distilled", "dense-norms-distilled", 8),
        ("distilled-all", "imp-all", 8),
        ("imp-all", "imp-mask", 8),
        ("distilled-all", "dense", 4),
        ("distilled-all", "random-layerwise-all", 8, "accuracy"),
        ("distilled-all", "reinit-all", 8, "accuracy"),
    ],
    "cifar10-small": [
        ("distilled", "dense", 8),
        ("distilled", "dense", 8, "accuracy"),
        ("distilled", "imp", 8, "interpolated barrier"),
        ("hybrid", "imp", 8, "accuracy"),
        ("distilled-gentle", "distilled", 8),
        ("imp-short-gentle", "imp-short", 8),
        ("distilled-gentle", "distilled", 8, "accuracy"),
        ("imp-short-gentle", "imp-short", 8, "accuracy"),
        ("distilled-gentle", "imp-short-gentle", 8),
        ("distilled-gentle", "imp-short-gentle", 8, "accuracy"),
        ("distilled", "dense", 4),
        ("distilled", "random-layerwise", 4),
        ("distilled", "imp-rewound", 4),
        ("distilled", "imp", 4),
        ("distilled", "imp", 4, "accuracy"),
        ("distilled", "random-layerwise", 4, "accuracy"),
        ("distilled", "subset", 4),
        ("imp-short", "distilled", 4),
        ("imp-short", "distilled", 4, "accuracy"),
        ("imp-short", "imp", 4),
        ("imp-short", "imp", 4, "accuracy"),
        *(
            (m, than, 4)
            for than in ("distilled", "dense", "random-layerwise")
            for m in ("distilled-mask", "distilled-all")
        ),
        ("imp", "imp-mask", 8),
        ("dense", "distilled-mask", 8),
        ("imp-mask", "distilled-mask", 8, "accuracy"),
        ("imp-mask", "distilled-mask", 8),
        ("distilled-mask", "subset-mask", 8),
        ("distilled-mask", "initial", 8),
        ("subset-mask", "initial", 8),
        ("initial", "random-layerwise", 8),
        ("initial", "dense", 8),
        ("dense-norms-distilled", "dense", 8),
        ("imp-all", "imp", 8),
        ("imp-all", "imp-mask", 8),
        ("dense", "imp-mask", 8),
        ("distilled-all", "dense", 8),
        ("distilled-all", "distilled-mask", 8),
        ("distilled-all", "imp-all", 8),
    ],
    FITTED: [
        ("distilled", "imp", 8),
        ("subset", "imp", 8),
        ("imp-short", "imp", 8),
        ("imp-short", "distilled", 8),
        ("subset", "distilled", 8),
        ("distilled", "dense", 8),
        ("imp", "dense", 8),
        ("distilled", "dense", 8, "accuracy"),
        ("distilled", "imp", 8, "accuracy"),
        ("imp-short", "imp", 8, "accuracy"),
    ],
}
"""Run -> (arm, other, level) of the differences of barriers (or of another measure) that FINDINGS.md tells, in their
order; of a main effect, its name."""


def readings(kept):
    """What is read of a run: its barriers, those with interpolated statistics, and accuracies."""
    return (kept, "barrier"), (kept.interpolated, "barrier"), (kept, "accuracy")


def both_readings(kept, arm, other, level, measure="barrier"):
    """The difference of two arms by recalibrated and by interpolated statistics."""
    from lotto.stats import paired

    readings = (kept, kept.interpolated) if measure == "barrier" else (kept, kept)
    return [paired(values[arm], values[other]) for values in (run.values(measure, level) for run in readings)]


def test_what_the_findings_say_of_every_sparsity():
    from lotto.lab.claims import runs

    kept = runs.reference("digits")
    for level in kept.facts["batches"]["curves"]["levels"]:
        for measure in ("barrier", "accuracy"):
            assert all(d.low < 0 < d.high for d in both_readings(kept, "distilled", "subset", level, measure)), level
        assert both_readings(kept, "hybrid", "imp", level, "accuracy")[0].low < 0
        assert (both_readings(kept, "hybrid", "imp", level)[0].low > 0) == (level in (6, 10, 12))
        dense, chance = (both_readings(kept, "distilled", m, level) for m in ("dense", "random-layerwise"))
        assert all(d.high < 0 for d in dense) == (level <= 6) and (chance[0].high < 0) == (level in (6, 8, 10))


@pytest.mark.parametrize("name", DIFFERENCES)
def test_every_difference_of_the_findings_is_that_of_its_reference_run(name):
    from lotto.lab.claims import contrasts, runs

    kept = kept_with_its_pilot()[-1] if name == FITTED else runs.reference(name)

    def told(text):
        """-1, 0 or 1: which side of 0 the interval lies on, and 0 where it holds 0."""
        low, high = map(float, re.search(r"\[(.*), (.*)\]", text).groups())
        return (low > 0) - (high < 0)

    effects = {row["first minus second"]: row for row in contrasts.main_effects(kept)}
    expected = []
    for part in DIFFERENCES[name]:
        if isinstance(part, str):
            plain, other = effects[part]["97.2 %"], effects[part]["97.2 %, interpolated"]
        else:
            *arms, measure = (*part, "barrier")[:4]
            plain, other = (each.text(1) for each in both_readings(kept, *arms, measure.split()[-1]))
            plain = other if measure.startswith("interpolated") else plain
        differ = told(plain) != told(other)
        expected.append(plain + "†" * differ)
    assert re.findall(DIFFERENCE + "†?", findings(name)) == expected


def test_what_the_findings_say_of_the_number_of_images():
    from lotto.lab.compare import tables
    from lotto.stats import interval, paired

    text = FINDINGS.split(" ## How many images a class ")[1].split(" ## ")[0]
    grid = tables.read("reference/grid-digits.csv")
    found = {m: tables.estimates(grid, m) for m in ("barrier", "accuracy")}

    def of(measure, arm, images):
        rows = found[measure]
        rows = rows[(rows.series.str.split("/").str[1] == arm) & (rows.ipc == str(images))]
        return dict(zip(rows.seed, rows.value, strict=True))

    sizes = (1, 5, 10, 50)
    for measure in ("barrier", "accuracy"):
        for arm in ("distilled", "subset"):
            means = " | ".join(f"{interval(list(of(measure, arm, n).values())).mean:.1f}" for n in sizes)
            assert f"| {measure}, {ARMS[arm].title} | {means} |" in text
    told = [
        *(("accuracy", arm, 5, arm, 1) for arm in ("distilled", "subset")),
        *(("barrier", arm, 5, arm, 1) for arm in ("subset", "distilled")),
        *(("barrier", arm, 10, arm, 1) for arm in ("distilled", "subset")),
        ("barrier", "subset", 1, "dense", 1),
        ("barrier", "subset", 50, "subset", 10),
        *((measure, "distilled", 1, "subset", 1) for measure in ("barrier", "accuracy")),
    ]
    differences = {part: paired(of(*part[:3]), of(part[0], *part[3:])) for part in told}
    assert re.findall(DIFFERENCE, text) == [str(d) for d in differences.values()]
    clear = [
        (measure, arm, n, m)
        for measure in found
        for arm in ("distilled", "subset")
        for n, m in ((10, 5), (50, 10))
        if not (d := paired(of(measure, arm, n), of(measure, arm, m))).low < 0 < d.high
    ]
    assert clear == [("barrier", "subset", 50, 10)], "of eight"
    gains = [paired(of("accuracy", arm, 10), of("accuracy", arm, 1)) for arm in ("distilled", "subset")]
    assert all(d.low < 0 < d.high for d in gains)
    for measure, n in ((measure, n) for measure in found for n in sizes):
        apart = paired(of(measure, "distilled", n), of(measure, "subset", n))
        assert apart.low < 0 < apart.high, (measure, n)


def test_interpolated_statistics_make_barriers_higher():
    from lotto.lab.claims import runs
    from lotto.lab.claims.board import means

    for name in ("digits", "cifar10-small"):
        kept = runs.reference(name)
        plain, other = means(kept, "barrier", 8), means(kept.interpolated, "barrier", 8)
        assert all(other[arm] > plain[arm] for arm in plain), name
        assert {arm for arm in other if other[arm] < 2 and not arm.startswith("dense")} <= {
            "imp-rewound",
            "imp-rewound-all",
        }, name


def test_what_the_findings_say_of_small_cifar_10_beyond_its_differences():
    from lotto.lab.claims import board, runs
    from lotto.stats import interval

    kept = runs.reference("cifar10-small")
    barriers = kept.values("barrier", 8)
    assert len(barriers["imp-all"]) == 5 and min(barriers["imp-all"].values()) > STABLE
    there, other = kept.values("barrier", 4), kept.interpolated.values("barrier", 4)
    assert len(there["distilled"]) == len(there["random-layerwise"]) == 5
    assert max(max(there[m].values()) for m in ("distilled", "imp-short", "imp-rewound")) < STABLE
    above = ("random-layerwise", "subset", "distilled-mask", "distilled-all")
    assert min(min(there[m].values()) for m in above) > STABLE
    assert sum(v < STABLE for v in there["imp"].values()) == 3
    found = {m: interval(list(there[m].values())) for m in ("imp", "distilled", "imp-short", "imp-rewound")}
    assert [f.low < STABLE < f.high for f in found.values()] == [True, True, False, False]
    gains = board.means(kept, "barrier", 4)
    for m in ("distilled-mask", "distilled-all"):
        assert 0.85 < (gains["dense"] - gains[m]) / (gains["dense"] - gains["distilled"]) < 0.95, "nine tenths"
    assert all(sum(values.values()) / len(values) > STABLE for m, values in other.items() if not m.startswith("dense"))


def test_what_the_findings_say_of_the_fitted_runs():
    from lotto.lab.claims import board, runs

    (first, second, kept), above = kept_with_its_pilot(), runs.reference("cifar10-small")
    text, arms = findings(second.name), ("dense", "imp", "distilled", "subset", "imp-short")
    for line, (run, measure) in {
        "barrier, pilot": (first, "barrier"),
        "barrier, repeated": (second, "barrier"),
        "barrier, all four": (kept, "barrier"),
        "the same, interpolated": (kept.interpolated, "barrier"),
        "accuracy, all four": (kept, "accuracy"),
    }.items():
        expected = " | ".join(f"{board.means(run, measure, 8)[arm]:.1f}" for arm in arms)
        assert f"| {line} | {expected} |" in text
    assert [sorted(run.values("barrier", 8)["imp"]) for run in (first, second)] == [[200, 201], [202, 203]]
    sides = dict.fromkeys([("imp", "distilled"), ("imp", "subset"), ("imp", "imp-short")], 8)
    sides |= {("distilled", "subset"): 7}  # of four initialisations, by either kind of statistics
    for (one, other), agree in sides.items():
        both = [run.values("barrier", 8) for run in (kept, kept.interpolated)]
        assert sum(values[one][seed] > values[other][seed] for values in both for seed in values[one]) == agree
    for barriers in (second.values("barrier", 8), second.interpolated.values("barrier", 8)):
        for seed in (202, 203):
            others = min(barriers[m][seed] for m in ("imp-mask", "random-layerwise", "reinit"))
            assert max(barriers[m][seed] for m in ("distilled", "distilled-mask")) < others
            assert barriers["distilled"][seed] < barriers["distilled-mask"][seed]
            assert barriers["imp"][seed] < barriers["imp-mask"][seed]
    other = board.means(second.interpolated, "barrier", 8)
    kept_of = {m: (other["dense"] - other[m]) / (other["dense"] - other["distilled"]) for m in other}
    assert 0.2 < kept_of["random-layerwise"] < kept_of["reinit"] < 0.35, "a quarter to a third"
    assert 0.45 < (other["dense"] - other["imp-mask"]) / (other["dense"] - other["imp"]) < 0.6, "about halfway"
    barriers = kept.values("barrier", 8)
    assert [v < STABLE for v in barriers["imp-short"].values()] == [False, False, True, True]
    assert all(v > STABLE for m in arms[:4] for v in barriers[m].values())
    assert all(v > STABLE for m in arms for v in kept.interpolated.values("barrier", 8)[m].values())
    before = both_readings(above, "distilled", "imp", 8)
    assert before[0].low > 0 and before[1].low < 0 < before[1].high
    digits = runs.reference("digits").tables["accuracy"]
    assert digits[digits.method == "dense"].train_loss.max() < 0.05
    losses = [
        run.tables["accuracy"].query("level in (0, 8)").groupby("method").train_loss.mean() for run in (kept, above)
    ]
    told = [f"{loss[[*arms[1:]]].agg(how):.2f}" for loss in losses for how in ("min", "max")]
    assert f"(training loss {told[0]} to {told[1]}; above {told[2]} to {told[3]}; dense" in text
    assert f"dense {losses[0]['dense']:.2f} and {losses[1]['dense']:.2f})" in text


def test_what_the_findings_say_of_the_length_of_loops():
    from lotto.lab.claims import board, runs

    other = runs.reference("cifar10-small-loops")
    columns = {  # last training of 1,500 and of 3,000 steps: the runs with loops of 1,500 and of 3,000, and the dense net
        1500: ((other, "imp"), (other, "imp-short"), (other, "dense")),
        3000: (
            (runs.reference(f"{FITTED}-loops"), "imp-short"),
            *((runs.reference(FITTED), m) for m in ("imp", "dense")),
        ),
    }
    found = {
        last: [
            [[run.values(m, 8)[arm][seed] for seed in (202, 203)] for run, m in readings(kept)] for kept, arm in column
        ]
        for last, column in columns.items()
    }
    for i, name in enumerate(("loops of 1,500 steps", "loops of 3,000 steps", "dense")):
        cells = ["{:.1f} ({:.1f}), {:.1f}".format(*(sum(v) / 2 for v in column[i])) for column in found.values()]
        assert f"| {name} | {' | '.join(cells)} |" in findings(FITTED)
    accurate = 0
    for short, long, _ in found.values():
        assert max(short[0]) < STABLE < min(long[0]) and max(short[1]) < min(long[1])
        accurate += sum(a > b for a, b in zip(short[2], long[2], strict=True))
    assert accurate == 3
    digits = runs.reference("digits-loops")
    longer, plain = (board.means(digits, "barrier", 8)[m] for m in ("imp-short", "imp"))
    assert f"(605 to 609; {longer:.1f} and {plain:.1f} there)" in findings(FITTED)
    for measure in ("barrier", "accuracy"):
        for found in both_readings(digits, "imp-short", "imp", 8, measure):
            assert found.n == 5 and found.low < 0 < found.high


def test_the_findings_at_full_size_name_the_arms_in_the_order_of_their_numbers():
    from lotto.lab.claims import board, runs

    kept = runs.reference("cifar10-brief")
    arms = ("dense", "distilled", "subset", "random-layerwise", "imp", "imp-rewound")
    expected = [f"{board.means(kept, m, 8)[arm]:.1f}" for m in ("barrier", "accuracy") for arm in arms]
    assert re.findall(r"\b\d+\.\d\b(?! million)", findings("cifar10-brief")) == expected


def test_the_table_of_claims_is_what_the_reference_runs_say():
    from lotto.lab.claims import board

    assert board.readme(README) == README, "run: python -m lotto.run claims"
