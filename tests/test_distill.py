import json

import pytest
import torch
from safetensors.torch import save_file

from lotto import data, distill, tickets
from lotto.config import ConfigError, Data, Distill
from lotto.data import DataError
from lotto.distill import SynSet, foreign, loop, matching, sets
from lotto.store import Checkpoint

SMALL = Distill(ipc=2, steps=6, width=8)


@pytest.fixture(scope="module")
def real():
    return data.load(Data(train_size=200))


def test_the_loss_falls_and_pixels_stay_in_range(real):
    made, losses = distill.match_distributions(real, SMALL.but(steps=60))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert (
        made.labels.tolist() == [c for c in range(10) for _ in range(2)] and 0 <= float(made.images.min()) <= float(made.images.max()) <= 1
    )


def test_distance_by_hand():
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0], [1.0, 1.0], [0.0, 2.0]])
    labels = torch.tensor([0, 0, 1, 0, 1])  # three real images, two distilled ones
    # class 0: mean (2, 0) against (1, 1): 2; class 1: (0, 5) against (0, 2): 9
    goal = matching.class_means(features[:3], labels[:3], 2)
    assert goal.tolist() == [[2, 0], [0, 5]]
    assert float(matching.distance(goal, features[3:], labels[3:])) == 11


def test_pixel_gradient_against_finite_differences():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Softplus(), torch.nn.Flatten()).double()
    images = torch.rand(4, 1, 5, 5, dtype=torch.float64)
    syn = torch.rand(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    goal = matching.class_means(net(images).detach(), torch.tensor([0, 0, 1, 1]), 2)
    assert torch.autograd.gradcheck(lambda s: matching.distance(goal, net(s), torch.tensor([0, 1])), syn)


def test_only_training_images_are_looked_at(real):
    blind = data.RealData(
        real.train,
        data.Split(real.held_out.images * float("nan"), real.held_out.labels),
        data.Split(real.test.images * float("nan"), real.test.labels),
        real.classes,
        real.mean,
        real.std,
    )
    assert torch.equal(distill.match_distributions(blind, SMALL)[0].images, distill.match_distributions(real, SMALL)[0].images)


def test_seeds_and_repeats(real):
    a, b, c = (distill.match_distributions(real, SMALL, seed)[0].images for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


class Stop(Exception):
    pass


def test_killed_and_resumed_is_the_same_to_the_bit(real, tmp_path):
    class Failing(Checkpoint):
        def due(self):
            return True

        def save(self, tensors, state):
            super().save(tensors, state)
            if state["step"] == 4:
                raise Stop

    through = distill.match_distributions(real, SMALL)
    with pytest.raises(Stop):
        distill.match_distributions(real, SMALL, checkpoint=Failing(tmp_path))
    resumed = distill.match_distributions(real, SMALL, checkpoint=Checkpoint(tmp_path))
    assert torch.equal(through[0].images, resumed[0].images) and through[1] == resumed[1]


def test_the_matching_net_has_no_statistics_and_fresh_weights_each_step(real):
    a, b = (loop.random_net(SMALL, real, 0, step) for step in (0, 1))
    assert not list(a.buffers()) and not torch.equal(a.features[0].weight, b.features[0].weight)


def test_subset_and_noise_are_keyed_and_of_equal_size(real):
    sets = [make(real, 3, seed) for make in (distill.subset, distill.noise) for seed in (0, 0, 1)]
    assert all(s.images.shape == (30, 1, 8, 8) and (s.labels.bincount() == 3).all() for s in sets)
    for a, again, other in (sets[:3], sets[3:]):
        assert torch.equal(a.images, again.images) and not torch.equal(a.images, other.images)
    pixels = real.pixels(real.train.images)
    rows = {tuple(round(v, 4) for v in r.tolist()) for r in pixels.flatten(1)}
    assert all(tuple(round(v, 4) for v in r.tolist()) in rows for r in sets[0].images.flatten(1))
    with pytest.raises(DataError, match="ask for at most"):
        distill.subset(real, 1000, 0)


def test_inner_images_are_normalised_like_the_real_ones(real, tiny):
    study = tiny(train_size=200)
    small = distill.small_set(distill.SetOf(data=study.dataset, images=study.images("subset", 0)))
    split = distill.inner_images(study.dataset, study.images("subset", 0))
    assert torch.allclose(split.images.cpu(), real.normalise(small.images.to(real.mean.device)).cpu(), atol=1e-5)
    assert torch.equal(distill.inner_images(study.dataset, study.images("real", 0)).images, real.train.images)


def test_synset_round_trip_and_range(real, tmp_path):
    made = distill.subset(real, 2, 0)
    made.save(tmp_path / "set.safetensors")
    back = SynSet.load(tmp_path / "set.safetensors")
    assert torch.equal(back.images, made.images) and back.classes == made.classes and back.recipe == made.recipe
    with pytest.raises(DataError, match=r"pixels run from -2 to .*undo it with images \* std \+ mean"):
        SynSet((made.images - 0.5) * 4, made.labels, made.classes, made.mean, made.std)
    with pytest.raises(DataError, match="label 0 is 0; labels run from 0 to -1|labels run from"):
        SynSet(made.images, made.labels + 5, made.classes, made.mean, made.std)


def test_files_that_are_no_synset(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        SynSet.load(tmp_path / "absent")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="is no SynSet file"):
        SynSet.load(tmp_path / "other.safetensors")
    whole = tmp_path / "cut.safetensors"
    save_file({"images": torch.zeros(2, 1, 4, 4)}, whole, metadata={"lotto": json.dumps({})})
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(DataError, match="cut short"):
        SynSet.load(whole)


@pytest.mark.gpu
def test_on_the_gpu_as_on_the_cpu(monkeypatch):
    found = []
    for device in ("cpu", "cuda"):
        monkeypatch.setenv("LOTTO_DEVICE", device)
        found.append(distill.match_distributions(data.load(Data(train_size=200)), SMALL)[0].images)
    assert torch.allclose(*found, atol=1e-3)


def test_permuted_labels_are_the_same_images_under_the_same_labels(real):
    small = distill.subset(real, 5)
    other = sets.permuted(small, 3)
    assert torch.equal(other.images, small.images) and torch.equal(other.labels.sort().values, small.labels.sort().values)
    assert float((other.labels == small.labels).double().mean()) < 0.4
    assert torch.equal(other.labels, sets.permuted(small, 3).labels)


def test_the_easiest_images_have_the_lowest_scores_of_their_class(real):
    el2n = torch.rand(len(real.train), generator=torch.Generator().manual_seed(0))
    chosen = sets.easiest(real, 3, el2n)
    assert chosen.labels.tolist() == [c for c in range(10) for _ in range(3)]
    for c in range(10):
        members = (real.train.labels == c).nonzero().squeeze(1)
        best = members[el2n[members].argsort()[:3]]
        assert torch.allclose(chosen.images[chosen.labels == c], real.pixels(real.train.images[best]).clamp(0, 1), atol=1e-6)


def test_difficulty_finds_a_wrong_label(tiny):
    study = tiny(train_size=None)
    scores = sets.difficulty(sets.Judges(data=study.dataset, nets=1)).tensors["el2n"]
    assert scores.shape == (1200,) and 0 <= float(scores.min()) <= float(scores.max()) <= 2**0.5 + 1e-6
    # what the nets of another seed get wrong is what these find hard
    other = sets.difficulty(sets.Judges(data=study.dataset, nets=1, seed=1)).tensors["el2n"]
    assert float(scores[other.argsort()[-60:]].mean()) > 2 * float(scores.mean())


def test_a_set_of_ones_own_is_an_arm(tiny, tmp_path):
    plain = tiny(train_size=200)
    made = distill.small_set(distill.SetOf(data=plain.dataset, images=plain.images("distilled", 0)))
    made.save(tmp_path / "set-0.safetensors")
    study = plain.but(own_set=str(tmp_path / "set-{seed}.safetensors"), methods=("own", "distilled"))
    tickets.check(study)
    masks = [tickets.level(study.ticket(m, 2, 0)).tensors for m in ("own", "distilled")]
    assert masks[0].keys() == masks[1].keys() and all(masks[0][n].equal(masks[1][n]) for n in masks[0])
    before = tickets.level.key(study.ticket("own", 2, 0))
    distill.subset(data.load(plain.dataset), 2).save(tmp_path / "set-0.safetensors")  # another set under the same name
    assert tickets.level.key(study.ticket("own", 2, 0)) != before
    with pytest.raises(DataError, match="set-1.safetensors: no such file"):
        tickets.check(study.but(seeds=2))
    other = distill.subset(data.load(Data(train_size=200, image_size=6)), 2)
    other.save(tmp_path / "set-0.safetensors")
    with pytest.raises(
        DataError, match=r"images of shape \(1, 6, 6\) and 10 classes, the real data \(1, 8, 8\) and 10; use it with the data"
    ):
        tickets.check(study)
    with pytest.raises(ConfigError, match="own_set = None: the arm 'own' needs the file of its images"):
        plain.but(methods=("own",))


def test_what_others_have_published_is_an_arm_too(tiny, tmp_path):
    plain = tiny(train_size=200)
    foreign.export(distill.subset(data.load(plain.dataset), 2), tmp_path, "mtt")
    study = plain.but(own_set=str(tmp_path / "images_best.pt"), methods=("own",))
    tickets.check(study)
    before = tickets.level.key(study.ticket("own", 1, 0))
    assert distill.inner_images(study.dataset, study.images("own", 0)).images.shape == (20, 1, 8, 8)
    torch.save(torch.arange(20) % 10, tmp_path / "labels_best.pt")  # the labels alone are other ones
    assert tickets.level.key(study.ticket("own", 1, 0)) != before


def test_an_image_that_holds_several_needs_as_many_real_ones(tiny):
    with pytest.raises(DataError, match=r"ipc = 3: the smallest class has \d+ training images, and one stored holds 4; give at most 2"):
        tickets.check(tiny(train_size=100, ipc=3, distill_factor=2))
