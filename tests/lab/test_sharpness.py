import math

import pytest
import torch

from lotto import masks
from lotto.lab import plots
from lotto.lab.arms import ARMS
from lotto.lab.describe import Curvature
from lotto.lab.sharpness import figures, products, tables
from lotto.lab.tickets.products import level


def test_planes_of_a_tiny_study(tiny, monkeypatch):
    monkeypatch.setenv("LOTTO_JOBS", "1")
    study = tiny(methods=["dense", "imp", "distilled"])
    found = tables.scapes(study)
    assert set(found) == {("dense", 0), ("distilled", 1), ("distilled", 2)}
    one = found["distilled", 2]
    assert (
        len(one["x"])
        == len(one["y"])
        == len(one["test_error"])
        == len(one["test_error"][0])
        == study.sharp.plane_points
    )


def test_tables_on_a_tiny_study(tiny, monkeypatch):
    monkeypatch.setenv("LOTTO_JOBS", "1")
    study = tiny(methods=["dense", "imp", "random"], net="resnet10", sharp_images=16)
    gone = tables.discarded(study)
    assert len(gone) == len(gone.drop_duplicates(["point", "method", "level", "seed"])) == 3 * 2 * 2
    assert set(gone.point) == set(products.POINTS)
    assert (gone[gone.level == 1].removed.between(35.9, 36.1)).all()
    assert (gone.trace - gone.trace_matched - gone.trace_excess < 1e-9).all()
    left = tables.curvatures(study)
    assert len(left) == 1 + 2 * 2
    assert all(math.isfinite(t) for t in left.trace.dropna())
    row = left.dropna(subset="trace").iloc[0]
    assert row.lowest <= row.highest
    assert len(row.spectrum) == 2 * study.sharp.eigenvalues


def test_what_diverged_has_no_numbers(tiny, monkeypatch):
    monkeypatch.setenv("LOTTO_JOBS", "1")
    study = tiny(methods=["dense", "imp", "random"], levels=[1], lr=100, steps=30, rewind=1)
    gone = tables.discarded(study).set_index(["point", "method"])
    numbers = gone.columns.difference(["level", "seed", "removed"])
    assert gone.loc["trained", numbers].isna().all(axis=None)
    assert gone.loc[("init", "imp"), numbers].isna().all(axis=None)
    assert gone.loc[("init", "random"), numbers].notna().all(axis=None)
    left = tables.curvatures(study)
    assert set(left.state) == {"diverged"}
    assert left[["trace", "highest", "spectrum"]].isna().all(axis=None)
    assert tables.scapes(study.but(planes=["dense", "imp"])) == {}


def test_steepness_and_spectra_of_a_small_study(tiny):
    study = tiny(methods=["dense", "imp", "random"], sharp_images=16, planes=["imp"])
    table = tables.steepnesses(study)
    assert len(table) == 1 + 2 * 2
    assert table.columns[4] == "sam"
    assert table.norm.notna().any()
    known = table.dropna(subset=["sam"])
    assert (known.sam >= 0).all()
    assert (known["rise 0.4"].notna()).all()
    spectra = tables.profiles(study)
    assert set(spectra) == {("imp", 2, 0)}
    one = spectra["imp", 2, 0]
    assert one.metrics["live"] == masks.count(level(study.ticket("imp", 2, 0)).tensors)
    assert torch.allclose(one.tensors["weights"].sum(1), torch.ones(2, dtype=torch.float64))
    assert products.curvature(Curvature(training=study.training("imp", 2, 0, 1), images=16, probes=4)).metrics[
        "trace"
    ] == pytest.approx(sum(one.metrics["traces"].values()), rel=1e-4)


def test_what_is_discarded_stands_beside_chance(compared):
    study = compared.study
    table = tables.discarded(study)
    fig = figures.discarded(table, study, 2)
    rows = table[(table.point == "init") & (table.level == 2) & (table.method == "imp")]
    means, shares = fig.data[1], fig.data[2]
    at = list(means.y).index(ARMS["imp"].title)
    assert means.x[at] == pytest.approx(rows.trace_excess.mean())
    assert shares.text[at] == f"{rows.trace.mean():.1f} %"
    assert len(fig.data) == 3 * len(products.POINTS)
    assert len(fig.data[0].x) == 3 * study.seeds
    empty = figures.discarded(table.assign(trace=float("nan"), trace_excess=float("nan")), study, 2)
    assert set(empty.data[2].text) == {""}


def test_curvature_figures(compared):
    study, barrier = compared.study, compared.barrier
    left = tables.curvatures(study).assign(state="trained")
    fig = plots.scatter(left, barrier.assign(barrier=1.0), study, "trace", "barrier", ("x", "y"), "t")
    assert {t.name for t in fig.data} == {ARMS[m].title for m in study.arms}


def test_spectra_and_layers(compared):
    study = compared.study
    found = tables.profiles(study)
    fig = figures.spectra(found, study, 2)
    assert [t.name for t in fig.data] == ["dense", "distilled"]
    assert len(fig.data[0].x) == 120
    layers = figures.trace_by_layer(found, study, 2)
    assert sum(layers.data[1].y) == pytest.approx(100)
    assert len(layers.data[1].x) == 21
    assert len(figures.spectra({}, study, 2).data) == 0
