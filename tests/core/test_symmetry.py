import pytest
import torch

from lotto import masks, modules, nets, stability, symmetry
from lotto.config import ConfigError, Net, Recipe
from lotto.train import train

NETS = [
    Net(name="convnet", width=6, norm="batch", depth=2),
    Net(name="convnet", width=6, norm="none", depth=3),
    Net(name="convnet", width=6, norm="instance", depth=2),
    Net(name="vgg16", width=4, norm="batch", init="he"),
    Net(name="resnet10", width=4, norm="batch"),
    Net(name="resnet18", width=4, norm="none"),
    Net(name="resnet20", width=4, norm="batch"),
]
each = pytest.mark.parametrize("net", NETS, ids=lambda n: f"{n.name}-{n.norm}")


def build(net, seed=0):
    """In double and evaluation mode, every parameter and statistic drawn at random, none of them special."""
    model = nets.build(net, (2, 8, 8), 3, seed).double().eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for t in model.state_dict().values():
            if t.is_floating_point() and t.ndim == 1:
                t.copy_(torch.rand(t.shape, generator=draw, dtype=t.dtype) + 0.5)
    return model


def shuffled(of, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return {g: torch.randperm(n, generator=draw) for g, n in of.sizes.items()}


@each
def test_permuting_leaves_the_function_as_it_is(net):
    model, images = build(net), torch.randn(5, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    of = symmetry.symmetries(model)
    before, state = model(images).detach(), modules.copy_state(model)
    model.load_state_dict(symmetry.permute(state, shuffled(of), of))
    assert any(not torch.equal(t, state[n]) for n, t in model.state_dict().items())
    assert torch.allclose(model(images), before, atol=1e-10)
    assert float(before.std(0).min()) > 1e-6
    back = {g: p.argsort() for g, p in shuffled(of).items()}
    assert all(torch.equal(symmetry.permute(modules.copy_state(model), back, of)[n], t) for n, t in state.items())


@each
def test_a_permuted_copy_is_brought_back(net):
    model = build(net)
    of, a = symmetry.symmetries(model), modules.copy_state(model)
    b = symmetry.permute(a, shuffled(of), of)
    found = symmetry.matched(a, b, of)
    assert all(torch.equal(found[n], t) for n, t in a.items())


def test_the_barrier_to_a_permuted_copy_is_symmetry_alone(digits):
    """Known answer: a barrier before matching, none after."""
    real = digits(300)
    model = nets.build(Net(name="convnet", width=8, norm="batch", depth=2), real.shape, 10, 0)
    end = train(model, real.train.images, real.train.labels, Recipe(steps=60, lr=0.1, shift=1)).state
    of = symmetry.symmetries(model)
    other = symmetry.permute(end, shuffled(of), of)

    def height(b):
        curves = stability.path(model, end, b, real.train, real.test, 5)
        return stability.barrier(curves["recalibrated"]["test_error"], curves["alphas"])

    assert height(other) > 0.2
    assert height(symmetry.matched(end, other, of)) == 0


@each
def test_matching_two_nets_never_parts_them(net):
    a, b = (modules.copy_state(build(net, seed)) for seed in (0, 1))
    of = symmetry.symmetries(build(net))

    def together(x):
        return sum(float((a[n] * x[n]).sum()) for n in of.learned)

    for seed in (0, 1):
        assert together(symmetry.matched(a, b, of, seed)) > together(b)
    assert all(torch.equal(p, symmetry.match(a, b, of)[g]) for g, p in symmetry.match(a, b, of).items())


def test_every_channel_between_input_and_scores_has_its_group():
    for net in NETS:
        model = build(net)
        of = symmetry.symmetries(model)
        axes = [(a.tensor, a.dim) for group in of.groups.values() for a in group]
        assert len(axes) == len(set(axes))
        state = model.state_dict()
        free = {(n, d) for n in masks.prunable(model) for d in (0, 1)} - set(axes)
        first = next(iter(masks.prunable(model)))
        assert free == {(first, 1), ("head.weight", 0)}  # the input's channels and the classes keep their places
        assert {n for n, t in state.items() if t.ndim == 1 and n != "head.bias"} <= {n for n, _ in axes}


def test_a_mask_permutes_along(net):
    model = net()
    of, order = symmetry.symmetries(model), shuffled(symmetry.symmetries(model))
    mask = {
        n: m & (torch.rand(m.shape, generator=torch.Generator().manual_seed(0)) < 0.3)
        for n, m in masks.ones(model).items()
    }
    state = masks.apply(modules.copy_state(model), mask)
    assert all(
        torch.equal(t != 0, symmetry.permute(mask, order, of)[n])
        for n, t in symmetry.permute(state, order, of).items()
        if n in mask
    )


def test_nets_whose_symmetries_are_not_known():
    with pytest.raises(ConfigError, match="symmetries of a Linear are not known; use a ConvNet, VGG or ResNet"):
        symmetry.symmetries(torch.nn.Linear(2, 2))
    grouped = nets.build(Net(name="resnet10", width=16, norm="group"), (1, 8, 8), 3, 0)
    with pytest.raises(ConfigError, match="norm = 'group'"):
        symmetry.symmetries(grouped)
    assert not symmetry.known(grouped)
    assert symmetry.known(build(NETS[0]))
    assert symmetry.known(
        nets.build(Net(name="convnet", width=5, norm="group"), (1, 8, 8), 3, 0)
    )  # one group: all may change places


def test_orders_that_are_none(net):
    model = net()
    of, state = symmetry.symmetries(model), modules.copy_state(model)
    with pytest.raises(ConfigError, match="an order of its 4 channels holds each once"):
        symmetry.permute(state, {"stem": torch.tensor([0, 1, 1, 2])}, of)
    with pytest.raises(ConfigError, match="group 'stam' is not there; did you mean 'stem'"):
        symmetry.permute(state, {"stam": torch.arange(4)}, of)
