import hashlib
from pathlib import Path

import pytest

import lotto
from lotto.lab import presets
from lotto.lab.arms import ARMS
from lotto.lab.claims import judge, rules, runs
from lotto.lab.claims.rules import CLAIMS, ENOUGH, MEASURES, REGIMES

PARTS = [(c, p) for c in CLAIMS for p in (*c.parts, *c.controls, *([c.twin] if c.twin else []))]


def test_at_most_eight_primary_claims_and_they_come_first():
    primary = [c.primary for c in CLAIMS]
    assert 0 < sum(primary) <= 8 and primary == sorted(primary, reverse=True)


def test_every_claim_is_told_once_with_a_source_and_a_notebook():
    assert len({c.id for c in CLAIMS}) == len({c.short for c in CLAIMS}) == len({c.text for c in CLAIMS}) == len(CLAIMS)
    assert all(c.source and c.parts and c.notebook in ("01", "02", "03", "04", "05", "06") for c in CLAIMS)


@pytest.mark.parametrize(("claim", "part"), PARTS, ids=[f"{c.id}-{p.arm}-{p.measure}" for c, p in PARTS])
def test_every_arm_measure_and_level_exists(claim, part):
    assert part.arm in ARMS and part.measure in MEASURES and part.margin >= 0
    assert part.than in ARMS if isinstance(part.than, str) else part.rule in ("above", "below")
    assert (part.rule in ("above", "below")) == (not isinstance(part.than, str))
    assert part.at in ("dense", "main", "fine", "high") or (
        isinstance(part.at, int) and MEASURES[part.measure].table == "judged"
    )
    assert ARMS[part.arm].dense == (part.at == "dense")
    assert part.than != part.arm


def test_every_primary_claim_has_a_twin_and_every_matching_its_controls():
    for c in CLAIMS:
        assert c.twin or not c.primary
        assert c.twin not in c.parts
        if c.primary and [p.rule for p in c.parts] == ["not worse"]:
            assert {"random-layerwise", "noise"} == {p.arm for p in c.controls} and {p.rule for p in c.controls} == {
                "worse"
            }
            assert {p.margin for p in c.controls} == {c.parts[0].margin}


def test_every_measure_is_a_column_of_a_table_that_runs_make():
    assert {m.table for m in MEASURES.values()} <= set(runs.tables())


def test_the_digest_is_that_of_the_files_bytes():
    assert judge.digest() == hashlib.sha256(Path(rules.__file__).read_bytes()).hexdigest()


@pytest.mark.parametrize("preset", REGIMES)
def test_a_regime_lies_in_its_preset_and_has_enough_initialisations(preset):
    kept, study = REGIMES[preset], lotto.study(preset)
    assert (
        kept.main in study.levels
        and kept.high in presets.study(preset, "high-sparsity").levels
        and kept.seeds >= ENOUGH
    )
    assert study.first_seed + study.seeds <= kept.first_seed
