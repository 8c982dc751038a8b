import json

import plotly.graph_objects as go
import pytest
import torch

from lotto import figures, stability, tickets
from lotto.config import METHODS


@pytest.fixture(scope="module")
def tables():
    import lotto
    from tests.conftest import TINY

    study = lotto.study("digits", **{**TINY, "seeds": 2, "methods": ["dense", "dense-rewound", "imp", "random", "distilled"]})
    return study, stability.accuracies(study), stability.barriers(study), stability.paths(study), tickets.densities(study)


def test_every_method_has_a_colour_of_its_own():
    assert set(figures.COLOURS) == set(METHODS) and len(set(figures.COLOURS.values())) == len(METHODS)


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
    figures.show(go.Figure(go.Scatter(x=[1], y=[2])))
    assert list(shown[0]) == ["application/vnd.plotly.v1+json"]
