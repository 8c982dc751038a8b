import itertools

import pandas as pd
import plotly.graph_objects as go
import pytest

from lotto.lab import curves, plots, presets
from lotto.lab.arms import ARMS


def test_every_method_has_a_colour_of_its_own():
    assert set(plots.COLOURS) == set(ARMS)
    assert len(set(plots.COLOURS.values())) == len(ARMS)


def test_dots_show_every_trained_run_and_accuracies_of_others_and_say_how_many_trained(compared):
    study, accuracy = compared.study, compared.accuracy
    accuracy = accuracy.copy()
    accuracy["accuracy"], accuracy["state"] = 50.0, "trained"
    accuracy.loc[(accuracy.method == "imp") & (accuracy.level == 1) & (accuracy.seed == 1), "state"] = "failed"
    for column, without in (("accuracy", 0), ("barrier", 1)):
        fig = plots.dots(accuracy.rename(columns={"accuracy": column}), study, column, "axis", "title", mark=2)
        small = [t for t in fig.data if t.marker.size == 5]
        assert sum(len(t.x) for t in small) == 3 * 2 * 2 - without
        assert [a.text for a in fig.layout.annotations if "trained" in a.text] == ["1 of 2 trained"]


def test_dots_have_lines_of_the_study_s_own_dense_nets(compared):
    study, barrier = compared.study, compared.barrier.assign(barrier=1.0, state="trained")
    for arms in (study.arms, [m for m in study.arms if m != "dense-rewound"]):
        fig = plots.dots(barrier, study.but(methods=arms), "barrier", "points", "title")
        drawn = {t.name.split(":")[0] for t in fig.data if t.mode == "lines"}
        assert drawn == {ARMS[m].title for m in arms if ARMS[m].dense}


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
    assert "hollow: not all trained" in fig.layout.title.text
    whole = curves.curves(accuracy.assign(state="trained"), study, "accuracy", "accuracy (%)", "title")
    assert "hollow" not in whole.layout.title.text
    assert set(lines) == {None, *(ARMS[m].title for m in study.arms if not ARMS[m].dense)}
    # a line is shown whole, and so is the rule
    accuracy.loc[(accuracy.method == "random") & (accuracy.level == 2), "accuracy"] = 1.0
    fig = curves.curves(accuracy, study, "accuracy", "accuracy (%)", "title", mark=2)
    assert fig.layout.yaxis.range[0] < 1
    assert "stable: below 2" in {t.name for t in fig.data}


def test_a_panel_ends_above_a_few_collapsed_accuracies_and_says_them_at_its_edge(compared):
    study = presets.study("digits", methods=["dense", "imp", "distilled"], levels=[2, 4, 6, 8, 12], seeds=2)
    rows = [
        {
            "method": m,
            "level": at,
            "seed": s,
            "state": "trained",
            "accuracy": 40.0 if (m, at) == ("imp", 12) else 98 + s,
        }
        for m, levels in (("dense", [0]), ("imp", study.levels), ("distilled", study.levels))
        for at in levels
        for s in range(2)
    ]
    fig = curves.curves(pd.DataFrame(rows), study, "accuracy", "accuracy (%)", "title")
    assert fig.layout.yaxis.range[0] > 95 and [a.text for a in fig.layout.annotations] == ["▼ 40.0"]
    assert "bars: lowest to highest" in fig.layout.title.text
    imp = next(t for t in fig.data if t.name == ARMS["imp"].title)
    assert imp.error_y.array[1] == imp.error_y.arrayminus[1] == 0.5


def test_dots_make_room_for_intervals_within_reason():
    study = presets.study("digits", methods=["imp", "distilled"], levels=[8], seeds=3)
    values = {"imp": [1.0, 2.0, 3.0], "distilled": [0.0, 0.0, 6.0]}
    rows = [
        {"method": m, "level": 8, "seed": s, "state": "trained", "barrier": v}
        for m, each in values.items()
        for s, v in enumerate(each)
    ]
    fig = plots.dots(pd.DataFrame(rows), study, "barrier", "points", "title")
    low, high = fig.layout.xaxis.range
    assert high >= 2 + 8.6 / 3 and -5 < low < -0.48 and high < 11, "of dots 0 to 6 it takes no more than twice the room"


def test_a_line_and_its_band_are_broken_where_an_arm_was_not_run():
    study = presets.study("digits", methods=["dense", "imp", "hybrid"], levels=[2, 4, 8, 12], seeds=5)
    values = {("dense", 0): 98, ("imp", 2): 97, ("imp", 8): 95, ("imp", 12): 94, ("hybrid", 12): 90}
    rows = [
        {"method": m, "level": at, "seed": s, "state": "trained", "accuracy": v + s % 2}
        for (m, at), v in values.items()
        for s in range(5)
    ]
    fig = curves.curves(pd.DataFrame(rows), study, "accuracy", "accuracy (%)", "title")
    imp, hybrid = (next(t for t in fig.data if t.name == ARMS[m].title) for m in ("imp", "hybrid"))
    bands = {t.legendgroup: t for t in fig.data if t.fill}
    assert [y is None for y in imp.y] == [False, False, True, False, False]
    assert [y is None for y in hybrid.y] == [False, True, True, True, False]
    assert [y is None for y in bands["imp"].y].count(True) == 2 and not any(imp.error_y.array)
    assert bands["hybrid"].y == () and hybrid.error_y.array[0] > 0 < hybrid.error_y.array[-1], "alone: a bar, no band"
    assert "hollow" not in fig.layout.title.text


# what a reader without the cones for long (protanopia) or middle (deuteranopia) waves sees: linear RGB -> linear RGB,
# Machado, Oliveira & Fernandes 2009, severity 1
SEEN = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
}


def lab(colour, seen):
    """CIE L*a*b* (D65) of "#rrggbb" as somebody sees it."""
    import numpy as np

    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(SEEN[seen]) @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    x, y, z = (
        np.cbrt(v) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116
        for v in to_xyz @ linear / np.array([0.95047, 1, 1.08883])
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", SEEN)
def test_the_main_arms_are_told_apart_by_their_colours(seen):
    """15 units of L*a*b* between any two: one is just seen where colours touch, 10 at a glance."""
    main = {n: a.colour for n, a in ARMS.items() if a.main}
    near = {
        (m, n): float(abs(((lab(a, seen) - lab(b, seen)) ** 2).sum()) ** 0.5)
        for (m, a), (n, b) in itertools.combinations(main.items(), 2)
    }
    assert {pair: round(d, 1) for pair, d in near.items() if d < 15} == {}


def test_a_method_is_marked_alike_wherever_lines_cross(compared):
    fig = curves.curves(compared.accuracy.assign(state="trained"), compared.study, "accuracy", "a", "t")
    lines = {t.name: t.marker.symbol for t in fig.data if t.name in {ARMS[m].title for m in compared.study.arms}}
    assert lines == {ARMS[m].title: plots.SYMBOLS[m] for m in compared.study.arms if not ARMS[m].dense}
