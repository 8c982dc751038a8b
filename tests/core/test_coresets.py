import pytest
import torch

from lotto.data import DataError
from lotto.distill import coresets


@pytest.fixture(scope="module")
def real(digits):
    return digits(200)


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
    assert sorted(found.tolist()) == list(range(60))
    assert labels[found].tolist() == [0] * 20 + [1] * 20 + [2] * 20
    with pytest.raises(DataError, match="21 images a class asked, but class 0 has 20"):
        choose(features, labels, 21)


def test_patches_hold_the_easiest_images(real):
    el2n = torch.rand(200, generator=torch.Generator().manual_seed(0))
    small = coresets.patches(real, el2n, 2)
    images, labels = small.decode()
    assert small.factor == 2
    assert len(small.images) == 20
    assert len(images) == 80
    pixels = real.pixels(real.train.images).clamp(0, 1)
    for c in (0, 7):
        members = (real.train.labels == c).nonzero().squeeze(1)
        easiest = pixels[members[el2n[members].argsort()[:8]]]
        shrunk = {
            tuple(x.flatten().tolist()) for x in torch.nn.functional.interpolate(easiest, size=(4, 4), mode="nearest")
        }
        stored = small.images[small.labels == c]
        parts = torch.cat([stored[:, :, i : i + 4, j : j + 4] for i in (0, 4) for j in (0, 4)])
        assert {tuple(x.flatten().tolist()) for x in parts} == shrunk


def test_subset_and_noise_are_keyed_and_of_equal_size(real):
    sets = [make(real, 3, seed) for make in (coresets.subset, coresets.noise) for seed in (0, 0, 1)]
    assert all(s.images.shape == (30, 1, 8, 8) and (s.labels.bincount() == 3).all() for s in sets)
    for a, again, other in (sets[:3], sets[3:]):
        assert torch.equal(a.images, again.images)
        assert not torch.equal(a.images, other.images)
    pixels = real.pixels(real.train.images)
    rows = {tuple(round(v, 4) for v in r.tolist()) for r in pixels.flatten(1)}
    assert all(tuple(round(v, 4) for v in r.tolist()) in rows for r in sets[0].images.flatten(1))
    with pytest.raises(DataError, match="ask for at most"):
        coresets.subset(real, 1000, 0)


def test_permuted_labels_are_the_same_images_under_the_same_labels(real):
    small = coresets.subset(real, 5)
    other = coresets.permuted(small, 3)
    assert torch.equal(other.images, small.images)
    assert torch.equal(other.labels.sort().values, small.labels.sort().values)
    assert float((other.labels == small.labels).double().mean()) < 0.4
    assert torch.equal(other.labels, coresets.permuted(small, 3).labels)


def test_the_easiest_images_have_the_lowest_scores_of_their_class(real):
    el2n = torch.rand(len(real.train), generator=torch.Generator().manual_seed(0))
    chosen = coresets.easiest(real, 3, el2n)
    assert chosen.labels.tolist() == [c for c in range(10) for _ in range(3)]
    for c in range(10):
        members = (real.train.labels == c).nonzero().squeeze(1)
        best = members[el2n[members].argsort()[:3]]
        assert torch.allclose(
            chosen.images[chosen.labels == c], real.pixels(real.train.images[best]).clamp(0, 1), atol=1e-6
        )


def test_too_few_easy_images_are_refused_as_with_all_coresets(real):
    fewest = int(real.train.labels.bincount().min())
    with pytest.raises(DataError, match="images a class asked"):
        coresets.easiest(real, fewest + 1, torch.rand(len(real.train)))
