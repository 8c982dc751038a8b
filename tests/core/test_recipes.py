import pytest

from lotto.config import ConfigError, Recipe
from lotto.distill.recipes import Distill, Gradient, Trajectory


@pytest.mark.parametrize("kind", [Recipe, Distill])
def test_fields_that_came_later_change_no_older_key(kind):
    plain = kind().model_dump(mode="json")
    assert not kind.later & set(plain)
    assert kind(**plain) == kind()
    for name, value in {"ops": ["cutout"], "cutmix": 0.5, "pool": 3, "factor": 2}.items():
        if name in kind.later:
            dump = kind(**{name: value}).model_dump(mode="json")
            assert dump == {**plain, name: value}
            assert kind(**dump) == kind(**{name: value})


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
