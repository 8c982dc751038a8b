import json

import plotly.graph_objects as go
import pytest
import torch

from lotto import anatomy, figures, landscape, regimes, sharpness, stability, tickets
from lotto.distill import judge
from lotto.lab.arms import ARMS


@pytest.fixture(scope="module")
def tables():
    import lotto
    from tests.conftest import TINY

    study = lotto.study("digits", **{**TINY, "seeds": 2, "methods": ["dense", "dense-rewound", "imp", "random", "distilled"]})
    return study, stability.accuracies(study), stability.barriers(study), stability.paths(study), tickets.densities(study)


def test_every_method_has_a_colour_of_its_own():
    assert set(figures.COLOURS) == set(ARMS) and len(set(figures.COLOURS.values())) == len(ARMS)


def test_dots_show_every_trained_run_and_say_how_many_did(tables):
    study, accuracy, *_ = tables
    accuracy = accuracy.copy()
    accuracy["accuracy"], accuracy["state"] = 50.0, "trained"
    accuracy.loc[(accuracy.method == "imp") & (accuracy.level == 1) & (accuracy.seed == 1), "state"] = "failed"
    fig = figures.dots(accuracy, study, "accuracy", "accuracy (%)", "title", mark=2)
    small = [t for t in fig.data if t.marker.size == 5]
    assert sum(len(t.x) for t in small) == 3 * 2 * 2 - 1
    assert [a.text for a in fig.layout.annotations if "trained" in a.text] == ["1 of 2 trained"]


def test_dots_without_any_trained_run(tables):
    study, accuracy, *_ = tables
    accuracy = accuracy.assign(state="dead")
    assert isinstance(figures.dots(accuracy, study, "accuracy", "x", "t"), go.Figure)


def test_layers_bars_are_the_shares(tables):
    study, accuracy, _, _, alive = tables
    fig = figures.layers(alive, accuracy, study, "imp", 2)
    row = alive[(alive.method == "imp") & (alive.level == 2) & (alive.layer == "head.weight")]
    assert fig.data[0].y[-1] == pytest.approx(100 * row.density.mean()) and len(fig.data[0].x) == 21


def test_path_has_as_many_traces_for_every_choice(tables):
    study, _, _, curves, _ = tables
    made = [figures.path(curves, study, m, 1, 0, metric) for m in study.arms for metric in figures.METRICS]
    assert {len(f.data) for f in made} == {2 * (study.seeds + 1)}
    empty = figures.path(curves[curves.method == "none"], study, "imp", 1)
    assert "no net trained" in empty.layout.title.text and len(empty.data) == len(made[0].data)


def test_all_paths_and_grid_are_json(tables):
    study, _, _, curves, _ = tables
    for fig in (
        figures.all_paths(curves, study, 1),
        figures.grid(torch.rand(6, 1, 4, 4), torch.arange(3).repeat(2), 2, "t"),
        figures.grid(torch.rand(6, 3, 4, 4), torch.arange(3).repeat(2), 2, "t"),
    ):
        assert len(json.loads(fig.to_json())["data"]) >= 1


def test_show_without_a_browser_is_interactive_only(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    figures.show(go.Figure(go.Scatter(x=[1], y=[2.123456789])))
    assert list(shown[0]) == ["application/vnd.plotly.v1+json"]
    assert shown[0]["application/vnd.plotly.v1+json"]["data"][0]["y"] == [2.12346]


def test_curves_have_a_line_a_method_and_hollow_marks_where_some_failed(tables):
    study, accuracy, *_ = tables
    accuracy = accuracy.assign(accuracy=50.0, state="trained")
    accuracy.loc[(accuracy.method == "imp") & (accuracy.level == 2) & (accuracy.seed == 1), "state"] = "failed"
    fig = figures.curves(accuracy, study, "accuracy", "accuracy (%)", "title")
    lines = {t.name: t for t in fig.data}
    imp = lines[ARMS["imp"].title]
    # from the dense net on; a band has no name
    assert list(imp.y) == [50, 50, 50] and list(imp.marker.color) == [figures.COLOURS["imp"]] * 2 + ["white"] and imp.x[0] == 100
    assert set(lines) == {None, *(ARMS[m].title for m in study.arms if not ARMS[m].dense)}
    accuracy.loc[(accuracy.method == "random") & (accuracy.level == 2), "accuracy"] = 1.0  # a line is shown whole, and so is the rule
    fig = figures.curves(accuracy, study, "accuracy", "accuracy (%)", "title", mark=2)
    assert fig.layout.yaxis.range[0] < 1 and "stable: below 2" in {t.name for t in fig.data}


def test_states_are_counted(tables):
    study, accuracy, *_ = tables
    accuracy = accuracy.assign(state="trained")
    accuracy.loc[(accuracy.method == "imp") & (accuracy.level == 2) & (accuracy.seed == 1), "state"] = "dead"
    heat = figures.states(accuracy, study).data[0]
    row = list(heat.y).index(ARMS["imp"].title)
    assert list(heat.z[row]) == [1, 0.5] and heat.text[row][1] == "1 trained<br>1 dead"


def test_what_is_discarded_stands_beside_chance(tables):
    study, *_ = tables
    table = sharpness.discarded(study)
    fig = figures.discarded(table, study, 2)
    rows = table[(table.point == "init") & (table.level == 2) & (table.method == "imp")]
    means, shares = fig.data[1], fig.data[2]
    at = list(means.y).index(ARMS["imp"].title)
    assert means.x[at] == pytest.approx(rows.trace_excess.mean()) and shares.text[at] == f"{rows.trace.mean():.1f} %"
    assert len(fig.data) == 3 * len(sharpness.POINTS) and len(fig.data[0].x) == 3 * study.seeds
    empty = figures.discarded(table.assign(trace=float("nan"), trace_excess=float("nan")), study, 2)
    assert set(empty.data[2].text) == {""}


def test_curvature_figures(tables):
    study, accuracy, barrier, *_ = tables
    left, planes = sharpness.curvatures(study).assign(state="trained"), landscape.scapes(study)
    fig = figures.scatter(left, barrier.assign(barrier=1.0), study, "trace", "barrier", ("x", "y"), "t")
    assert {t.name for t in fig.data} == {ARMS[m].title for m in study.arms}
    made = [figures.spectrum_and_plane(left, planes, study, m, 2, k) for m in study.arms for k in ("test_error", "train_loss")]
    assert len({len(f.data) for f in made}) == 1  # as many traces for every choice, so that a slider only moves them
    by = {f.layout.title.text: f for f in made}
    assert len(by["distilled, 59.0 % sparse"].data[-2].x) == study.plane_points
    assert any("no plane" in title for title in by)


def test_sets_and_losses(tables):
    study, *_ = tables
    fig = figures.judged(judge.judgements(study), study)
    assert len(fig.data) == 2 * 3 * len(study.ipcs)
    lines = figures.losses({"a": [[4.0, 2.0, 0.0]], "b": [[1.0], [2.0]]}, "t").data
    assert list(lines[0].y) == [4, 2, 0] and [t.showlegend for t in lines] == [True, True, False]


def test_switches_and_costs(tables):
    study = tables[0].but(levels=[1, 2])
    fig = figures.switches(stability.switched(study), study, 1, 2)
    assert len(fig.data) == 2 and list(fig.data[0].x) == list(study.switches)
    costs = tickets.costs(study)
    for cost in ("passes", "with distillation", "core-seconds"):
        fig = figures.against_cost(tables[1], costs, study, cost)
        assert len(fig.data) == 3 and all(len(t.x) == 2 for t in fig.data)


def test_figures_of_what_makes_it_stable(tables):
    import lotto
    from tests.conftest import TINY

    study = lotto.study("digits", **{**TINY, "seeds": 2, "methods": ["dense", "imp", "distilled"], "match_methods": ["dense", "imp"]})
    inner = regimes.inner(study.but(map_lrs=[0.1, 0.4])).assign(state="trained", barrier=5.0)
    inner.loc[(inner.lr == 0.1) & (inner.seed == 1), "state"] = "failed"
    fig = figures.regime_map({m: rows for m, rows in inner.groupby("method")}, study, 2)
    assert [t.type for t in fig.data] == ["heatmap"] * 1 and list(fig.data[0].text[0]) == [
        "5.0<br>1 of 2<br><b>gentle</b>",
        "5.0",
    ]
    assert {t.zmax for t in fig.data} == {5.0}
    time = regimes.over_time(study).assign(state="trained", barrier=3.0)
    assert tuple(figures.over_time(time, study, 2).data[0].x) == (0, 3, 6)
    shared = anatomy.overlaps(study)
    matrix = figures.overlap_matrix(shared, study, 2).data[0].z
    assert matrix[0][0] is None and matrix[0][1] == matrix[1][0] == pytest.approx(shared[shared.level == 2].excess.mean())
    assert len(figures.survivors(anatomy.survival(study), study, 2).data) == 2
    assert len(figures.settled(anatomy.settled(study), study).data) == 2 * 2
    between = stability.between(study).assign(state="trained", barrier=4.0, matched=1.0)
    rows = figures.matched(between, study, 2)
    assert [t.x[0] for t in rows.data[:2]] == [4.0, 1.0] and f"{ARMS['imp'].title}: child of level 1" in {t.y[0] for t in rows.data}


def test_spectra_and_layers(tables):
    study, *_ = tables
    found = sharpness.profiles(study)
    fig = figures.spectra(found, study, 2)
    assert [t.name for t in fig.data] == ["dense", "distilled"] and len(fig.data[0].x) == 120
    layers = figures.trace_by_layer(found, study, 2)
    assert sum(layers.data[1].y) == pytest.approx(100) and len(layers.data[1].x) == 21
    assert len(figures.spectra({}, study, 2).data) == 0


def test_worth_has_a_mark_a_set(tables):
    study = tables[0]
    table = regimes.sets(study.but(judge_kinds=["distilled", "subset"])).assign(state="trained", barrier=1.0)
    fig = figures.worth(table, "barrier", "error barrier (points)")
    assert sorted(t.name for t in fig.data if t.name) == [
        "distilled, 1 a class",
        "distilled, 2 a class",
        "random real, 1 a class",
        "random real, 2 a class",
    ]
