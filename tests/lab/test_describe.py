import pytest

from lotto.config import ConfigError, Recipe
from lotto.distill.recipes import Distill, Gradient, Trajectory
from lotto.lab.describe import Images, Round, Setup


def test_incomplete_descriptions_are_refused():
    with pytest.raises(ConfigError, match="need `distill`"):
        Images(kind="distilled")
    with pytest.raises(ConfigError, match="take no `ipc`"):
        Images(kind="real", ipc=3)
    with pytest.raises(ConfigError, match="needs `images`"):
        Round()
    with pytest.raises(ConfigError, match="takes no `images`"):
        Round(score="random", images=Images(), recipe=Recipe())
    with pytest.raises(ConfigError, match="rewind = 500"):
        Setup(rewind=500)


@pytest.mark.parametrize(
    "recipe", [Distill(pool=2, life=20, net_steps=2, factor=2), Gradient(life=20, factor=2), Trajectory(), Distill()]
)
def test_a_distillation_is_read_back_as_what_it_was(recipe):
    images = Images(kind="distilled", distill=recipe)
    assert Images(**images.model_dump()).distill == recipe == Images(**images.model_dump(mode="json")).distill
