import pandas as pd

import lotto
from lotto.lab.sparsity import figures, tables


def test_matching_stops_at_the_first_gap(monkeypatch):
    study = lotto.study(methods=["dense", "imp", "random"], levels=[2, 4, 6])
    values = {
        ("imp", 2): (96.5, 90.0),
        ("imp", 4): (96.0, 97.0),
        ("imp", 6): (95.0, 97.0),
        ("random", 2): (97.5, 97.0),
        ("random", 6): (97, 97),
    }
    rows = [dict(method="dense", level=0, seed=s, state="trained", accuracy=97.0) for s in (0, 1)]
    rows += [
        dict(method=m, level=at, seed=s, state="trained", accuracy=v)
        for (m, at), vs in values.items()
        for s, v in enumerate(vs)
    ]
    monkeypatch.setattr(tables, "accuracies", lambda _: pd.DataFrame(rows))
    found = {(r.method, r.seed): (r.rounds, round(r.sparsity, 1)) for r in tables.matching(study).itertuples()}
    # digits have 500 test images, so 1 point: imp 0 matches at 96.5 and 96.0, not at 95.0; imp 1 fails at once; random
    # has nothing at 4
    assert found == {("imp", 0): (4, 83.2), ("imp", 1): (0, 0.0), ("random", 0): (2, 59.0), ("random", 1): (2, 59.0)}


def test_switches_are_a_line_each(compared):
    study = compared.study.but(levels=[1, 2])
    fig = figures.switches(tables.switched(study), study, 1, 2)
    assert len(fig.data) == 2
    assert list(fig.data[0].x) == list(study.sweeps.switches)
