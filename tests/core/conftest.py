"""What the tests of the distillations share."""

import pytest
import torch

from lotto import data
from lotto.config import Net, Recipe
from lotto.distill import trajectories
from lotto.distill.coresets import subset
from lotto.nets import build
from lotto.train import train


@pytest.fixture(scope="session")
def ways():
    """ways(real, recipe): of `recipe.experts` nets, the weights before each epoch on the real images and after the
    last."""

    def make(real, recipe):
        found = []
        for number in range(recipe.experts):
            net = build(
                Net(name="convnet", width=recipe.width, depth=recipe.depth, norm="instance"),
                real.shape,
                len(real.classes),
                number,
            )
            epoch = Recipe(
                steps=len(real.train) // 64, lr=recipe.expert_lr, momentum=0.0, weight_decay=0.0, schedule="constant"
            )
            way = [trajectories.flat(net)]
            for k in range(recipe.epochs):
                net.load_state_dict(train(net, real.train.images, real.train.labels, epoch, seed=number, child=k).state)
                way.append(trajectories.flat(net))
            found.append(torch.stack(way))
        return found

    return make


@pytest.fixture(scope="module")
def real():
    """Random images of four classes, as a data set."""
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.rand(200, 3, 8, 8, generator=draw), torch.arange(200) % 4
    return data.own(images, labels, images, labels, classes=("cat", "dog", "owl", "yak"))


@pytest.fixture
def small(real):
    """Two of them a class."""
    return subset(real, 2)
