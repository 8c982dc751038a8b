"""Explorers: the control around a figure, its frames in pages without a kernel, and each explorer's figure on made-up
tables."""

import json
import math

import pandas as pd
import plotly.graph_objects as go
import pytest
import torch

from lotto.config import ConfigError
from lotto.distill.synset import SynSet
from lotto.distill.whitening import whiten, whitening
from lotto.lab.explore import controls, frames, images, paths, planes, redraw, spectra, tickets
from lotto.lab.plots import COLOURS
from lotto.lab.product import Product


def make(power, points):
    return go.Figure(
        [go.Scatter(x=list(range(points)), y=[v**power for v in range(points)])],
        dict(title=dict(text=f"power {power}")),
    )


@pytest.fixture
def shown(monkeypatch):
    """The figures that are shown."""
    found = []
    monkeypatch.setattr(controls, "show", found.append)
    return found


@pytest.fixture
def live(monkeypatch):
    monkeypatch.delenv("LOTTO_HEADLESS")


# controls


def test_a_control_redraws_from_what_is_chosen(live):
    box = controls.explore(make, start={"power": 2}, power=[1, 2, 3], points=[4, 5])
    power, points, picture, message = box.children
    assert power.value == 2
    assert picture.layout.title.text == "power 2"
    power.value, points.value = 3, 5
    assert list(picture.data[0].y) == [0, 1, 8, 27, 64]
    assert picture.layout.title.text == "power 3"
    assert not message.outputs


def test_more_traces_than_before_are_taken_over(live):
    box = controls.explore(lambda n: go.Figure([go.Scatter(y=[i]) for i in range(n)]), n=[1, 3])
    box.children[0].value = 3
    assert len(box.children[1].data) == 3


def test_a_redraw_is_one_message_to_the_page(live):
    box = controls.explore(make, power=[1, 2, 3], points=[4])
    told = []
    box.children[2].observe(
        lambda change: (
            told.append(change.name)
            if change.name.startswith("_py2js") and change.name != "_py2js_removeLayoutProps" and change.new
            else None
        )
    )
    box.children[0].value = 2
    assert told == ["_py2js_update"], "data and layout of a redraw go in one batch"


def test_what_did_not_change_is_not_sent(live):
    old, new = go.FigureWidget(make(2, 4)), make(3, 4)
    assert set(controls._changed(old.data[0], new.data[0])) == {"y"}
    assert controls._changed(old.layout, make(2, 4).layout) == {}


def test_words_stand_on_a_slider_too(live):
    box = controls.explore(lambda method: go.Figure(go.Scatter(name=method)), method={"IMP": "imp", "dense": "dense"})
    slider, picture, _ = box.children
    slider.index = 1
    assert (slider.label, picture.data[0].name) == ("dense", "dense")


def test_values_that_do_not_go_together_are_told_in_one_sentence(live, capsys):
    def refuse(n):
        if n > 1:
            raise ConfigError("rewind = 3: beyond the 2 steps")
        return go.Figure()

    box = controls.explore(refuse, n=[1, 2])
    box.children[0].value = 2
    assert capsys.readouterr().out.endswith("rewind = 3: beyond the 2 steps\n")


def test_nothing_to_choose():
    with pytest.raises(ValueError, match="power: there is nothing to choose from"):
        controls.explore(make, power=[], points=[1])


# pages without a kernel


def test_headless_shows_the_start_with_a_frame_for_each_value_of_the_main_choice(shown):
    assert controls.explore(make, start={"power": 3}, power=[1, 3], points=[4]) is None
    (fig,) = shown
    assert fig.layout.title.text == "power 3"
    assert [f.name for f in fig.frames] == ["1", "3"]
    assert [list(f.data[0].y) for f in fig.frames] == [[0, 1, 2, 3], [0, 1, 8, 27]]
    (slider,) = fig.layout.sliders
    assert slider.active == 1
    assert slider.currentvalue.prefix == "power: "
    assert [list(step.args[0]) for step in slider.steps] == [["1"], ["3"]]


def test_another_choice_may_be_the_main_one(shown):
    controls.explore(make, main="points", power=[1, 3], points=[4, 5, 6])
    assert [f.name for f in shown[0].frames] == ["4", "5", "6"]


def test_a_start_that_is_no_choice_falls_back(shown):
    controls.explore(make, start={"power": 9}, power=[1, 3], points=[4])
    assert shown[0].layout.title.text == "power 1"


def test_frames_hold_what_differs_and_nothing_else():
    fig = frames.framed({"a": make(1, 4), "b": make(2, 4)}, "a", "power")
    assert set(fig.frames[1].data[0].to_plotly_json()) == {"type", "y"}, "equal x is not said twice"
    same = frames.framed({"a": make(1, 4), "b": make(1, 4)}, "a", "power")
    assert len(same.frames[1].data) == 0


def test_what_one_figure_lacks_is_taken_away_by_its_frame():
    bare, marked = go.Figure(go.Scatter(y=[1])), go.Figure(go.Scatter(y=[1], text=["x"]))
    fig = json.loads(frames.framed({"bare": bare, "marked": marked}, "marked", "n").to_json())
    assert fig["frames"][0]["data"] == [{"type": "scatter"}] or fig["frames"][0]["data"][0]["text"] is None


def test_a_figure_with_fewer_traces_gets_empty_ones_and_unlike_types_are_refused():
    one, two = go.Figure([dict(x=[1], y=[1])]), go.Figure([dict(x=[1], y=[1]), dict(x=[2], y=[2])])
    fig = json.loads(frames.framed({"1": one, "2": two}, "1", "n").to_json())
    assert [t["x"] for t in fig["data"]] == [[1], []]
    assert {f["name"]: f["data"][0]["x"] for f in fig["frames"]} == {"1": [], "2": [2]}
    with pytest.raises(ValueError, match="n: bars has traces of the types .*bar.*, and another choice .*scatter"):
        frames.framed({"1": two, "bars": go.Figure([dict(type="bar", x=[1], y=[1])])}, "1", "n")


@pytest.mark.parametrize("name", ["images", "tickets", "paths", "planes", "spectra"])
def test_every_explorer_has_a_figure_for_a_page(name, compared, shown):
    """On products, as notebooks call it; the default run's sizes are told by `python -m lotto.lab.explore.redraw`."""
    redraw.explorers(compared.study)[name]()
    if name == "planes" and not shown:  # a net that fails to train in twelve steps has no plane
        return
    (fig,) = shown
    assert len(fig.frames) == len(fig.layout.sliders[0].steps) >= 1
    assert len(fig.to_json()) < 400_000


# figures


def test_a_class_of_a_set_is_drawn_as_its_pixels():
    pixels = torch.zeros(4, 1, 2, 2)
    pixels[2] = 1.0
    sets = {("distilled", 2, n): images.Shown(pixels, torch.tensor([0, 0, 1, 1])) for n in (0, 40)}
    one = images.figure(sets, ["a", "b"], "distilled", "b", 2, 40)
    assert one.layout.title.text == "distilled after 40 steps: class b, 2 stored a class"
    every = images.figure(sets, ["a", "b"], "distilled", images.EVERY, 2, 0)
    assert one.data[0].source != every.data[0].source
    assert images._side_by_side(sets["distilled", 2, 0], [1], 2, False).shape == (3, 6, 3)
    assert "not stored" in images.figure(sets, ["a", "b"], "noise", "b", 2, 0).layout.title.text


def test_a_whitened_set_is_shown_as_its_pixels(tiny, monkeypatch):
    pixels = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    how, plain = whitening(pixels), (torch.zeros(1), torch.ones(1))
    small = SynSet(whiten(pixels, how), torch.arange(200) % 10, tuple("0123456789"), *plain, whitening=how)
    assert small.images.min() < -0.5, "whitened values are no pixels"
    monkeypatch.setattr(images, "small_set", lambda what: small)
    monkeypatch.setattr(images, "made_of", lambda what: [])
    for shown in images.read(tiny()).values():
        torch.testing.assert_close(shown.images, pixels, atol=0.02, rtol=0)


def table_of_paths(study):
    hump = {"interpolated": [0.0, 50.0, 0.0], "recalibrated": [2.0, 10.0, 4.0]}
    return pd.DataFrame(
        [
            dict(method=m, level=level, seed=s, pair=0, statistics=k, alpha=a)
            | {c: hump[k][i] + 10 * s for c in paths.COLUMNS}
            for m, level in (("dense", 0), ("imp", 1))
            for s in study.initialisations
            for k in hump
            for i, a in enumerate((0.0, 0.5, 1.0))
        ]
    )


def test_a_path_says_its_barriers_and_has_as_many_traces_for_every_choice(tiny):
    study = tiny(seeds=2, methods=["dense", "imp"], levels=[1])
    found = paths.read(table_of_paths(study))
    made = {
        (m, s, what): paths.figure(found, study, m, 1, s, 0, what, "test")
        for m in study.arms
        for s in (paths.EVERY, 0, 1)
        for what in paths.UNITS
    }
    assert {len(f.data) for f in made.values()} == {2 * (study.seeds + 1)}
    names = [t.name for t in made["imp", paths.EVERY, "error"].data if t.name]
    assert names == [
        "interpolated statistics: barrier 50.0",
        "recalibrated statistics: barrier 7.0",
    ]
    mean = made["imp", paths.EVERY, "error"].data[-1]
    assert list(mean.y) == [7.0, 15.0, 9.0]
    assert mean.line.color == COLOURS["imp"]
    assert made["imp", 1, "loss"].layout.yaxis.title.text == "test loss (nats)"
    empty = paths.figure(paths.read(table_of_paths(study)[:0]), study, "imp", 1, paths.EVERY, 0, "error", "test")
    assert "no net trained" in empty.layout.title.text
    assert len(empty.data) == len(made["imp", 0, "error"].data)


def test_tickets_show_layers_overlap_and_what_they_reach(compared):
    study = compared.study
    found = tickets.read(study, compared.accuracy, compared.barrier)
    assert len(found.layers) == 21
    assert found.alive["imp", 2][-1] == pytest.approx(100 * _share_alive(study, "imp", 2, "head.weight"))
    shared, lucky = found.shared["imp", "random", 2]
    assert abs(shared.mean - lucky.mean) < 10, "a random mask overlaps as chance has it"
    assert found.shared["random", "imp", 2] == found.shared["imp", "random", 2]
    one, two = (tickets.figure(found, study, "distilled", "imp", level) for level in (1, 2))
    assert len(one.data) == len(two.data)
    assert [t.marker.color for t in two.data[:2]] == [COLOURS["distilled"], COLOURS["imp"]]
    assert f"overlap {found.shared['distilled', 'imp', 2][0].mean:.0f} %" in two.layout.title.text
    assert list(two.data[-1].x) == [2, 2]


def _share_alive(study, method, level, layer):
    from lotto.lab.tickets.products import level as mask_of

    found = [mask_of(study.ticket(method, level, s)).metrics for s in study.initialisations]
    return sum(m["layer_live"][layer] / m["layer_size"][layer] for m in found) / len(found)


def test_planes_share_a_scale_and_say_where_there_is_none(tiny):
    study = tiny(methods=["dense", "imp"], levels=[1])
    flat = dict(x=[0.0, 1.0], y=[0.0, 1.0], corners=[[0, 0], [1, 0], [0, 1]])
    found = {
        ("dense", 0, 0): {**flat, "test_error": [[0.0, 0.5], [0.1, None]], "train_loss": [[0.0, 9.0], [1.0, 1.0]]},
        ("imp", 1, 0): {**flat, "test_error": [[0.0, 0.0], [0.1, 0.2]], "train_loss": [[0.0, 0.1], [0.2, 0.3]]},
    }
    dense, imp = (planes.figure(found, study, m, 1, 0, "test error") for m in ("dense", "imp"))
    assert dense.data[0].zmax == imp.data[0].zmax == 50
    assert imp.data[0].colorbar.title.text == "test error (points)"
    assert planes.figure(found, study, "dense", 1, 0, "training loss").data[0].z[0][1] == 3.0, "losses are capped"
    none = planes.figure(found, study, "imp", 1, 1, "test error")
    assert "no plane stored" in none.layout.title.text and len(none.data) == len(imp.data)


def test_no_planes_is_a_sentence(tiny, own_store, capsys):
    assert planes.explorer(tiny()) is None
    assert "no planes are stored" in capsys.readouterr().out


def test_spectra_stand_over_those_of_the_others(tiny):
    study = tiny(methods=["dense", "imp"], levels=[1], seeds=2)
    table = pd.DataFrame(
        [
            dict(method=m, level=at, seed=s, spectrum=[-0.1, 1.0 + s])
            for m, at in (("dense", 0), ("imp", 1))
            for s in (0, 1)
        ]
    )
    nodes = {"nodes": torch.tensor([[0.0, 1.0]]).double(), "weights": torch.tensor([[0.5, 0.5]]).double()}
    found = spectra.read(table, {("imp", 1, 0): Product({}, nodes)}, points=5)
    assert len(found.grid) == 5 and all(math.isfinite(v) for v in found.densities["imp", 1, 0])
    imp, dense = (spectra.figure(found, study, m, 1) for m in ("imp", "dense"))
    assert len(imp.data) == len(dense.data)
    assert list(imp.data[1].x) == [-0.1, 2.0]
    assert "not measured" in dense.layout.title.text and "not measured" not in imp.layout.title.text
