import plotly.graph_objects as go

from lotto.lab import curves, plots
from lotto.lab.arms import ARMS


def test_every_method_has_a_colour_of_its_own():
    assert set(plots.COLOURS) == set(ARMS)
    assert len(set(plots.COLOURS.values())) == len(ARMS)


def test_dots_show_every_trained_run_and_say_how_many_did(compared):
    study, accuracy = compared.study, compared.accuracy
    accuracy = accuracy.copy()
    accuracy["accuracy"], accuracy["state"] = 50.0, "trained"
    accuracy.loc[(accuracy.method == "imp") & (accuracy.level == 1) & (accuracy.seed == 1), "state"] = "failed"
    fig = plots.dots(accuracy, study, "accuracy", "accuracy (%)", "title", mark=2)
    small = [t for t in fig.data if t.marker.size == 5]
    assert sum(len(t.x) for t in small) == 3 * 2 * 2 - 1
    assert [a.text for a in fig.layout.annotations if "trained" in a.text] == ["1 of 2 trained"]


def test_dots_without_any_trained_run(compared):
    study, accuracy = compared.study, compared.accuracy
    accuracy = accuracy.assign(state="dead")
    assert isinstance(plots.dots(accuracy, study, "accuracy", "x", "t"), go.Figure)


def test_show_without_a_browser_is_interactive_only(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    plots.show(go.Figure(go.Scatter(x=[1], y=[2.123456789])))
    assert list(shown[0]) == ["application/vnd.plotly.v1+json"]
    assert shown[0]["application/vnd.plotly.v1+json"]["data"][0]["y"] == [2.12346]


def test_curves_have_a_line_a_method_and_hollow_marks_where_some_failed(compared):
    study, accuracy = compared.study, compared.accuracy
    accuracy = accuracy.assign(accuracy=50.0, state="trained")
    accuracy.loc[(accuracy.method == "imp") & (accuracy.level == 2) & (accuracy.seed == 1), "state"] = "failed"
    fig = curves.curves(accuracy, study, "accuracy", "accuracy (%)", "title")
    lines = {t.name: t for t in fig.data}
    imp = lines[ARMS["imp"].title]
    # from the dense net on; a band has no name
    assert list(imp.y) == [50, 50, 50]
    assert list(imp.marker.color) == [plots.COLOURS["imp"]] * 2 + ["white"]
    assert imp.x[0] == 100
    assert set(lines) == {None, *(ARMS[m].title for m in study.arms if not ARMS[m].dense)}
    accuracy.loc[(accuracy.method == "random") & (accuracy.level == 2), "accuracy"] = (
        1.0  # a line is shown whole, and so is the rule
    )
    fig = curves.curves(accuracy, study, "accuracy", "accuracy (%)", "title", mark=2)
    assert fig.layout.yaxis.range[0] < 1
    assert "stable: below 2" in {t.name for t in fig.data}
