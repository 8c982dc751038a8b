"""Small tables by hand: arms with one value for each initialisation."""

import pandas as pd
import pytest

import lotto
from lotto.lab.arms import ARMS

FIRST = 100
"""First initialisation of the tables."""


@pytest.fixture
def study():
    """A study of the preset's main level alone."""
    return lotto.study("digits", levels=[8], first_seed=FIRST, seeds=5)


@pytest.fixture
def tables():
    """tables(accuracy={"imp": [90.0, ...]}, barrier=...): by name, at level 8 (dense arms at 0), a value of None being
    a net that died."""

    def make(level=8, **measures):
        found = {}
        for name, arms in measures.items():
            rows = []
            for arm, values in arms.items():
                at = 0 if ARMS[arm].dense else level
                state = ["trained" if v is not None else "dead" for v in values]
                rows += [
                    {"method": arm, "level": at, "seed": FIRST + i, "state": s, name: v}
                    for i, (v, s) in enumerate(zip(values, state, strict=True))
                ]
            found[name] = pd.DataFrame(rows)
        return found

    return make
