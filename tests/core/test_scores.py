import pytest
import torch

from lotto import hessian, masks, modules, nets, reach, scores
from lotto.config import Net
from lotto.data import DataError


def test_magnitude_reads_the_present_weights(net):
    model = net()
    mask = masks.ones(model)
    with torch.no_grad():
        model.head.weight.fill_(-3)
    assert (scores.magnitude(dict(model.named_parameters()), mask)["head.weight"] == 3).all()


def test_random_is_keyed_and_uniform_over_all_layers(net):
    mask = masks.ones(net(width=8))
    a, b, other = (
        scores.random(mask, 0, "score", 1),
        scores.random(mask, 0, "score", 1),
        scores.random(mask, 0, "score", 2),
    )
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert not torch.equal(a["head.weight"], other["head.weight"])
    kept = masks.prune(mask, a, 0.5)
    for m in kept.values():
        if m.numel() > 2000:
            assert abs(float(m.float().mean()) - 0.5) < 0.05


def test_scorers_leave_the_global_random_state_alone(net):
    mask = masks.ones(net())
    before = torch.get_rng_state()
    scores.random(mask, 0)
    assert torch.equal(before, torch.get_rng_state())


def linear(width=6):
    """Two linear layers without biases in double, some images and labels for them."""
    draw = torch.Generator().manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(4, width, bias=False),
        torch.nn.Tanh(),
        torch.nn.Linear(width, 3, bias=False),
    )
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draw, dtype=torch.float64))
    return model, torch.randn(8, 1, 2, 2, generator=draw, dtype=torch.float64), torch.arange(8) % 3


def test_snip_by_hand():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 2.0], [1.0, 2.0]]))
    images, labels = torch.tensor([[[[3.0, 5.0]]]], dtype=torch.float64).repeat(2, 1, 1, 1), torch.tensor([0, 0])
    # equal scores: softmax 1/2, so the gradient is (1/2 - 1) x for class 0 and 1/2 x for class 1
    found = scores.snip(model, images, labels, masks.ones(model))["1.weight"]
    assert torch.allclose(found, torch.tensor([[1.5, 5.0], [1.5, 5.0]], dtype=torch.float64))


def test_grasp_is_what_the_hessian_makes_of_the_gradient():
    model, images, labels = linear()
    mask = masks.ones(model)
    whole = hessian.Hessian(model, images, labels, mask)
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    found = torch.cat([s.flatten() for s in scores.grasp(model, images, labels, mask).values()])
    assert torch.allclose(found, weights * (whole @ gradient), atol=1e-12)


def test_grasp_keeps_what_the_gradient_flow_cannot_spare():
    model, images, labels = linear()
    mask = masks.ones(model)
    found = scores.grasp(model, images, labels, mask)["1.weight"]

    def flow(weight):
        with torch.no_grad():
            model[1].weight[i, j] = weight
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        return sum(float((g**2).sum()) for g in torch.autograd.grad(loss, list(model.parameters())))

    for i, j in ((0, 0), (2, 3), (5, 1)):
        was, step = float(model[1].weight.detach()[i, j]), 1e-4  # a little of its removal, there and back
        change = (flow(was * (1 - step)) - flow(was * (1 + step))) / (2 * step)
        flow(was)
        assert change == pytest.approx(-2 * float(found[i, j]), rel=1e-4)


def test_grasp_counts_the_flow_of_live_weights_alone():
    model, images, labels = linear()
    mask = masks.prune(masks.ones(model), scores.random(masks.ones(model), 0), 0.4)
    found = scores.grasp(model, images, labels, mask)
    model.load_state_dict(masks.apply(model.state_dict(), mask))
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    gradient = torch.autograd.grad(loss, list(model.parameters()))

    def live(parts):
        return torch.cat([t.detach()[m] for t, m in zip(parts, mask.values(), strict=True)])

    product = hessian.Hessian(model, images, labels, mask).dense() @ live(gradient)
    assert torch.allclose(live(found.values()), live(model.parameters()) * product, atol=1e-12)


def test_the_temperature_divides_the_outputs():
    class Cooled(torch.nn.Module):
        def forward(self, x):
            return x / 200

    model, images, labels = linear()
    mask = masks.ones(model)
    found = scores.grasp(model, images, labels, mask, temperature=200)
    cooled = scores.grasp(torch.nn.Sequential(*model, Cooled()), images, labels, mask)
    assert all(torch.equal(found[n], cooled[n]) for n in mask)
    with pytest.raises(ValueError, match="temperature = 0: give a number above 0"):
        scores.grasp(model, images, labels, mask, 0)


def test_gradients_are_of_batch_statistics_and_without_dropout(net, images):
    model = net()
    model.head = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(32, affine=False), model.head)
    mask = masks.ones(model)
    before, random = scores.snip(model, *images, mask), torch.get_rng_state()
    model.stem[1].running_mean.fill_(3)
    assert all(torch.equal(s, before[n]) for n, s in scores.snip(model, *images, mask).items())
    assert torch.equal(random, torch.get_rng_state())


def test_a_layer_the_outputs_do_not_depend_on_scores_nothing():
    model, images, labels = linear()
    model[1].spare = torch.nn.Linear(2, 2).double()
    mask = masks.ones(model)
    for found in (
        scores.snip(model, images, labels, mask),
        scores.grasp(model, images, labels, mask),
        scores.synflow(model, (1, 2, 2), mask),
    ):
        assert (found["1.spare.weight"] == 0).all()
        assert (found["3.weight"] != 0).any()


def test_synflow_by_hand():
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU(), torch.nn.Linear(2, 1)
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
        model[3].weight.copy_(torch.tensor([[-5.0, 6.0]]))
    found = scores.synflow(model, (1, 1, 2), masks.ones(model))
    assert found["1.weight"].tolist() == [[5, 10], [18, 24]]
    assert found["3.weight"].tolist() == [[15, 42]]
    pruned = masks.ones(model)
    pruned["1.weight"][0, 1] = False
    assert scores.synflow(model, (1, 1, 2), pruned)["3.weight"].tolist() == [[5, 42]]


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_the_flow_through_every_layer_is_the_same(norm):
    model = nets.build(Net(name="convnet", width=4, norm=norm), (1, 8, 8), 3, 0)
    found = [float(s.sum()) for s in scores.synflow(model, (1, 8, 8), masks.ones(model)).values()]
    assert min(found) > 0
    assert found == pytest.approx([found[0]] * len(found))


@pytest.mark.parametrize("kind", [torch.nn.LayerNorm, torch.nn.RMSNorm])
def test_a_norm_of_the_last_dimension_is_its_scale(kind):
    norm = kind(2)
    model = torch.nn.Sequential(
        torch.nn.Flatten(2), torch.nn.Linear(2, 2), norm, torch.nn.ReLU(), norm, torch.nn.Flatten()
    )
    model.append(torch.nn.Linear(6, 1))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
        norm.weight.copy_(torch.tensor([-2.0, 3.0]))  # it stands there twice: times 4 and 9
        model[6].weight.fill_(-1)
    found = scores.synflow(model, (3, 1, 2), masks.ones(model))
    assert found["1.weight"].tolist() == [[12, 24], [81, 108]]
    assert found["6.weight"].tolist() == [[12, 63, 12, 63, 12, 63]]


def test_synflow_leaves_no_layer_empty_where_one_shot_magnitude_does():
    model = nets.build(Net(name="vgg16", width=2, norm="batch"), (1, 8, 8), 4, 0)
    mask = masks.ones(model)
    with torch.no_grad():
        model.features[0].weight.mul_(1e-4)
    live = masks.count(mask) // 20
    magnitude = masks.keep(mask, scores.magnitude(dict(model.named_parameters()), mask), live)
    flow = scores.synflow_mask(model, (1, 8, 8), mask, live)
    assert masks.collapsed(magnitude)
    assert not masks.collapsed(flow)
    assert masks.count(flow) == live
    fewest = scores.synflow_mask(model, (1, 8, 8), flow, len(mask))  # one weight a layer
    assert all(m.sum() == 1 and (m <= flow[n]).all() for n, m in fewest.items())
    with pytest.raises(ValueError, match="live = 0: give 1 to"):
        scores.synflow_mask(model, (1, 8, 8), mask, 0)
    with pytest.raises(ValueError, match="rounds = 0: give at least 1"):
        scores.synflow_mask(model, (1, 8, 8), mask, live, rounds=0)


def test_synflow_empties_no_layer_but_in_residual_branches(net, images):
    model = net()
    kept = scores.synflow_mask(model, (1, 8, 8), masks.ones(model), 200)
    gone = masks.collapsed(kept)
    assert gone
    assert all(".conv" in n or ".shortcut" in n for n in gone)
    assert masks.count(kept) == 200
    model.load_state_dict(masks.apply(model.state_dict(), kept))
    assert not reach.dead(model, images[0])


@pytest.mark.parametrize(("name", "norm"), [("resnet18", "batch"), ("resnet18", "group"), ("convnet", "instance")])
def test_scorers_leave_the_net_as_it_is(images, name, norm):
    model = nets.build(Net(name=name, width=4, norm=norm), (1, 8, 8), 4, 0).to(memory_format=torch.channels_last)
    next(model.children()).eval()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    mask, before, random = masks.ones(model), modules.copy_state(model), torch.get_rng_state()
    modes = [m.training for m in model.modules()]
    for found in (
        scores.snip(model, *images, mask),
        scores.grasp(model, *images, mask),
        scores.synflow(model, (1, 8, 8), mask),
        scores.synflow_mask(model, (1, 8, 8), mask, 100, rounds=2),
    ):
        assert list(found) == list(mask)
        assert all(s.shape == mask[n].shape and not s.requires_grad for n, s in found.items())
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(random, torch.get_rng_state())
    assert (model.head.weight.grad == 1).all()
    assert next(model.parameters()).grad is None


def test_scorers_refuse_what_they_cannot_score(net, images):
    model = net()
    mask = masks.ones(model)
    with pytest.raises(DataError, match="holds NaN"):
        scores.snip(model, images[0] * float("nan"), images[1], mask)
    for score in (scores.snip, scores.grasp):
        with pytest.raises(DataError, match="label 3 is 4; labels run from 0 to 3"):
            score(model, images[0], images[1] + (images[1] == 3).long(), mask)
    with pytest.raises(masks.MaskError, match="not a parameter"):
        scores.grasp(model, *images, {**mask, "other.weight": mask["head.weight"]})
