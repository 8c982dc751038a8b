"""A study that many tests look at, computed once."""

from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def compared(tiny):
    """A tiny study of five arms and two initialisations, with its tables: `accuracy`, `barrier`, `paths`."""
    from lotto.lab.stability.tables import barriers, paths
    from lotto.lab.tickets.tables import accuracies

    study = tiny(seeds=2, methods=["dense", "dense-rewound", "imp", "random", "distilled"])
    tables = dict(accuracy=accuracies(study), barrier=barriers(study), paths=paths(study))
    return SimpleNamespace(study=study, **tables)
