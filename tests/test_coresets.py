import pytest
import torch

from lotto import data, distill, regimes
from lotto.config import ConfigError, Data
from lotto.data import DataError
from lotto.distill import coresets


def test_herding_by_hand():
    # class means 0 and 10: the first is nearest to the mean, the next brings the mean of two nearest to it
    features = torch.tensor([[-3.0], [1.0], [4.0], [-2.0], [9.0], [10.5], [10.5]])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    # class 0: 1 is nearest to 0; with it -2 gives -0.5, -3 gives -1, 4 gives 2.5
    # class 1: the tie of 10.5 goes to the first; then 9 gives 9.75
    assert coresets.herding(features, labels, 2).tolist() == [1, 3, 5, 4]


def test_kcenter_by_hand():
    features = torch.tensor([[0.0], [1.0], [10.0], [4.0]])
    labels = torch.zeros(4, dtype=torch.int64)
    # mean 3.75: 4 is nearest; then 10 is 6 away (0 only 4), then 0
    assert coresets.kcenter(features, labels, 3).tolist() == [3, 2, 0]
    assert sorted(coresets.kcenter(features, labels, 4).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("choose", [coresets.herding, coresets.kcenter])
def test_every_class_has_its_images_each_once(choose):
    draw = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 5, generator=draw), torch.arange(60) % 3
    found = choose(features, labels, 20)
    assert sorted(found.tolist()) == list(range(60)) and labels[found].tolist() == [0] * 20 + [1] * 20 + [2] * 20
    with pytest.raises(DataError, match="21 images a class asked, but class 0 has 20"):
        choose(features, labels, 21)


def test_patches_hold_the_easiest_images():
    real = data.load(Data(train_size=200))
    el2n = torch.rand(200, generator=torch.Generator().manual_seed(0))
    small = coresets.patches(real, el2n, 2)
    images, labels = small.decode()
    assert small.factor == 2 and len(small.images) == 20 and len(images) == 80
    pixels = real.pixels(real.train.images).clamp(0, 1)
    for c in (0, 7):
        members = (real.train.labels == c).nonzero().squeeze(1)
        easiest = pixels[members[el2n[members].argsort()[:8]]]
        shrunk = {tuple(x.flatten().tolist()) for x in torch.nn.functional.interpolate(easiest, size=(4, 4), mode="nearest")}
        stored = small.images[small.labels == c]
        parts = torch.cat([stored[:, :, i : i + 4, j : j + 4] for i in (0, 4) for j in (0, 4)])
        assert {tuple(x.flatten().tolist()) for x in parts} == shrunk


@pytest.mark.parametrize("kind", ["easy", "herding", "kcenter", "patches"])
def test_sets_through_the_study(tiny, kind):
    study = tiny()
    small = distill.small_set(distill.SetOf(data=study.dataset, images=study.images(kind, 0)))
    assert len(small.images) == 20 and small.recipe["method"] == kind
    inner = distill.inner_images(study.dataset, study.images(kind, 0))
    assert len(inner) == (80 if kind == "patches" else 20)
    other = distill.small_set(distill.SetOf(data=study.dataset, images=study.images(kind, 1)))
    assert not torch.equal(other.images, small.images)  # fresh nets of another seed


def test_sets_and_their_masks_side_by_side(tiny):
    study = tiny(judge_kinds=["distilled", "subset", "herding"], ipcs=[1, 2], levels=[1, 2])
    table = regimes.sets(study)
    assert sorted(map(tuple, table[["method", "level"]].values)) == [(k, i) for k in ("distilled", "herding", "subset") for i in (1, 2)]
    assert table.worth.between(0, 100).all() and table.density.round(3).eq(round(study.density(2), 3)).all()


def test_kinds_that_are_none(tiny):
    with pytest.raises(ConfigError, match="judge_kinds: 'real' is not a kind of set; use distilled, .*, permuted, own, subset"):
        tiny(judge_kinds=["real"])
