import pytest

import lotto
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


def test_nothing_but_a_rewound_net_depends_on_the_dense_training():
    """So that what starts at the initialisation is computed once for all outer recipes."""
    one, other = Recipe(steps=100, lr=0.1), Recipe(steps=200, lr=0.4)
    assert Setup(pretrain=one) == Setup(pretrain=other) == Setup()
    assert Setup(pretrain=one, rewind=5) != Setup(pretrain=other, rewind=5)
    study = lotto.study("digits")
    assert study.ticket("initial", 4, 0) == study.but(lr=0.3).ticket("initial", 4, 0)
    assert study.ticket("imp-rewound", 4, 0) != study.but(lr=0.3).ticket("imp-rewound", 4, 0)
