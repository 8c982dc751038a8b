import plotly.graph_objects as go
import pytest

from lotto.lab import explore


def make(power, points):
    return go.Figure(
        [go.Scatter(x=list(range(points)), y=[v**power for v in range(points)])],
        dict(title=dict(text=f"power {power}")),
    )


def test_a_slider_redraws_from_what_is_chosen(monkeypatch):
    monkeypatch.delenv("LOTTO_HEADLESS")
    box = explore.explore(make, start={"power": 2}, power=[1, 2, 3], points=[4, 5])
    power, points, picture, message = box.children
    assert power.value == 2
    assert picture.layout.title.text == "power 2"
    power.value, points.value = 3, 5
    assert list(picture.data[0].y) == [0, 1, 8, 27, 64]
    assert picture.layout.title.text == "power 3"
    assert not message.outputs


def test_more_traces_than_before_are_taken_over(monkeypatch):
    monkeypatch.delenv("LOTTO_HEADLESS")
    box = explore.explore(lambda n: go.Figure([go.Scatter(y=[i]) for i in range(n)]), n=[1, 3])
    box.children[0].value = 3
    assert len(box.children[1].data) == 3


def test_headless_shows_the_start(monkeypatch):
    shown = []
    monkeypatch.setattr(explore, "show", shown.append)
    assert explore.explore(make, start={"power": 3}, power=[1, 3], points=[4]) is None
    assert shown[0].layout.title.text == "power 3"


def test_a_start_that_is_no_choice_falls_back(monkeypatch):
    shown = []
    monkeypatch.setattr(explore, "show", shown.append)
    explore.explore(make, start={"power": 9}, power=[1, 3], points=[4])
    assert shown[0].layout.title.text == "power 1"


def test_nothing_to_choose():
    with pytest.raises(ValueError, match="power: there is nothing to choose from"):
        explore.explore(make, power=[], points=[1])
