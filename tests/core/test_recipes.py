import pytest

from lotto.config import ConfigError
from lotto.distill.recipes import Distill, Gradient, Trajectory


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (Trajectory, dict(epochs=3, span=5), "span = 5: an expert trains for 3 epochs; give 1 to 3"),
        (
            Trajectory,
            dict(epochs=3, span=1, latest=3),
            "latest = 3: from there an expert has no 1 epochs left; give 0 to 2",
        ),
        (Distill, dict(ce=0.5), "ce = 0.5: random nets know no classes; give pool = 1 or more"),
        (Gradient, dict(pool=0), "pool = 0"),
    ],
)
def test_recipes_that_cannot_be(kind, given, said):
    with pytest.raises(ConfigError, match=said):
        kind(**given)
