import gc
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lotto import hessian, masks, modules, spectrum
from lotto.config import ConfigError
from lotto.data import DataError


def small(norm=False, seed=0):
    """A smooth float64 net of some 60 parameters, and 10 images for it."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 3, 2), *([nn.BatchNorm2d(3)] if norm else []), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)]
    model = nn.Sequential(*layers).double()
    images = torch.randn(10, 1, 3, 3, dtype=torch.float64)
    if norm:
        modules.recalibrate(model, images)
    return model, images, torch.arange(10) % 3


def exact(model, images, labels):
    """The whole Hessian over all parameters, by autograd."""
    params = {n: p.detach() for n, p in model.named_parameters()}
    sizes = [p.numel() for p in params.values()]

    def loss(flat):
        parts = {n: t.view(p.shape) for (n, p), t in zip(params.items(), flat.split(sizes), strict=True)}
        with modules.evaluating(model):
            return F.cross_entropy(torch.func.functional_call(model, parts, (images,)), labels)

    return torch.autograd.functional.hessian(loss, torch.cat([p.flatten() for p in params.values()]))


def a_mask(model, kept=0.5):
    torch.manual_seed(5)
    return {n: torch.rand_like(dict(model.named_parameters())[n]) < kept for n in masks.prunable(model)}


def coordinates(model, mask):
    """Where the mask's live weights lie among all parameters."""
    return torch.cat(
        [
            mask[n].flatten() if n in mask else torch.zeros(p.numel(), dtype=torch.bool)
            for n, p in model.named_parameters()
        ]
    )


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("batch", [512, 4])  # 4: ten images in batches of 4, 4 and 2, each image weighted alike
def test_products_are_the_dense_hessians(norm, batch):
    model, images, labels = small(norm)
    h, whole = hessian.Hessian(model, images, labels, batch=batch), exact(model, images, labels)
    assert h.size == len(whole)
    dense = h.dense()
    torch.testing.assert_close(dense, whole, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(dense, dense.T, rtol=1e-9, atol=1e-12)
    v = torch.randn(h.size, dtype=torch.float64)
    torch.testing.assert_close(h @ v, whole @ v, rtol=1e-6, atol=1e-9)


def test_a_mask_gives_the_block_of_its_live_weights():
    model, images, labels = small(norm=True)
    mask = a_mask(model)
    h, at = hessian.Hessian(model, images, labels, mask), coordinates(model, mask)
    assert h.size == masks.count(mask)
    torch.testing.assert_close(h.dense(), exact(model, images, labels)[at][:, at], rtol=1e-6, atol=1e-9)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])[at]
    assert h.norm() == pytest.approx(float(weights.norm()))


def test_coordinates_follow_the_model_not_the_mask():
    model, images, labels = small()
    mask, v = a_mask(model), None
    backwards = dict(reversed(mask.items()))
    assert list(backwards) != list(mask)
    v = torch.randn(masks.count(mask), dtype=torch.float64)
    assert torch.equal(
        hessian.Hessian(model, images, labels, backwards) @ v, hessian.Hessian(model, images, labels, mask) @ v
    )


def test_curvlinops_says_the_same():
    with warnings.catch_warnings():  # importing it raises a FutureWarning of torch.jit
        warnings.simplefilter("ignore")
        curvlinops = pytest.importorskip("curvlinops", reason="curvlinops is not installed")
        model, images, labels = small()
        model.eval()
        theirs = curvlinops.HessianLinearOperator(
            model, nn.CrossEntropyLoss(), list(model.parameters()), [(images, labels)]
        )
        v = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
        torch.testing.assert_close(hessian.Hessian(model, images, labels) @ v, theirs @ v, rtol=1e-6, atol=1e-9)


def test_diagonal_and_trace_are_within_three_standard_errors():
    model, images, labels = small()
    h, whole = hessian.Hessian(model, images, labels), exact(model, images, labels)
    found = hessian.diagonal(h, probes=400)
    trace, error = found.trace
    assert abs(trace - float(whole.trace())) < 3 * error
    assert error < 0.2 * abs(trace)
    assert trace == pytest.approx(float(found.mean.sum()))
    off = (found.mean - whole.diagonal()).abs() / found.error.clamp_min(1e-12)
    assert float((off < 3).double().mean()) > 0.97  # of the entries: 3 in 1,000 may stray


def test_the_diagonal_of_a_diagonal_hessian_is_exact():
    h = hessian.Hessian(*small())
    h.products = lambda vectors: vectors * torch.arange(h.size, dtype=torch.float64)
    found = hessian.diagonal(h, probes=4)
    assert found.mean.tolist() == list(range(h.size))
    assert float(found.error.max()) == 0
    assert found.trace[1] == 0


def test_the_halves_share_no_probe():
    h = hessian.Hessian(*small())
    seen, plain = [], h.products
    h.products = lambda vectors: seen.append(vectors[0].clone()) or plain(vectors)
    found = hessian.diagonal(h, probes=6, seed=3)
    each = [z * (h @ z) for z in seen[:6]]
    torch.testing.assert_close(found.halves, torch.stack([sum(each[:3]) / 3, sum(each[3:]) / 3]))
    assert len({tuple(z.tolist()) for z in seen[:6]}) == 6
    assert found.traces == pytest.approx([float(e.sum()) for e in each])
    assert not torch.equal(hessian.diagonal(h, probes=6, seed=4).mean, found.mean)


def test_extreme_eigenvalues_are_algebraic_and_to_the_tolerance():
    h = hessian.Hessian(*small(norm=True))
    assert h.size > 50
    values = torch.linalg.eigvalsh(h.dense())
    assert hessian.extremes(h, 2, 1e-6) == pytest.approx(
        [*values[:2].tolist(), *values[-2:].tolist()], rel=1e-4, abs=1e-8
    )
    signs = torch.linspace(-7, 3, h.size, dtype=torch.float64)  # the largest by magnitude is the smallest
    h.products = lambda vectors: vectors * signs
    assert hessian.extremes(h, 1, 1e-8) == pytest.approx([-7, 3], rel=1e-4)


def test_eigenvalues_are_the_same_to_the_bit_each_time():
    # of low rank: Lanczos has soon seen everything, and begins anew with vectors drawn at random
    h = hessian.Hessian(*small(norm=True))
    values = torch.zeros(h.size, dtype=torch.float64)
    values[:3] = torch.tensor([-0.5, 2.0, 500.0])
    seen = []
    h.products = lambda vectors: seen.append(vectors[0].tolist()) or vectors * values
    found = [hessian.extremes(h, 1) for _ in range(2)]
    half = len(seen) // 2
    assert found[0] == found[1]
    assert half > 4
    assert seen[:half] == seen[half:]


def test_few_weights_give_all_their_eigenvalues():
    model, images, labels = small()
    mask = {n: torch.zeros_like(m) for n, m in masks.ones(model).items()}
    mask["0.weight"].view(-1)[:3] = True
    h = hessian.Hessian(model, images, labels, mask)
    assert hessian.extremes(h, 2) == pytest.approx(torch.linalg.eigvalsh(h.dense()).tolist())


def test_a_flat_loss_has_eigenvalues_of_0():
    h = hessian.Hessian(*small())
    h.products = torch.zeros_like
    assert h.size > 50
    assert hessian.extremes(h, 2) == [0.0] * 4


def test_nothing_of_the_model_is_touched_and_memory_stays_flat():
    model, images, labels = small(norm=True)
    model.train()
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    before = {n: t.clone() for n, t in model.state_dict().items()}
    h = hessian.Hessian(model, images, labels, a_mask(model), batch=4)
    v = torch.ones(h.size, dtype=torch.float64)
    first = h @ v
    gc.collect()
    count = sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())
    for _ in range(100):
        again = h @ v
    gc.collect()
    assert sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()) <= count + 5
    assert torch.equal(first, again)
    assert model.training
    assert model[1].training
    assert float(next(model.parameters()).grad.sum()) == 12
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in before.items())


class Pair(nn.Sequential):
    """A net that returns more than scores."""

    def forward(self, x):
        return super().forward(x), x


def test_bad_input():
    model, images, labels = small()
    with pytest.raises(masks.MaskError, match="another net"):
        hessian.Hessian(model, images, labels, {"x": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(ConfigError, match="at least one live weight"):
        hessian.Hessian(model, images, labels, {n: torch.zeros_like(m) for n, m in masks.ones(model).items()})
    with pytest.raises(DataError, match="NaN"):
        hessian.Hessian(model, images / 0 * 0, labels)
    with pytest.raises(DataError, match="label 0 is 3; labels run from 0 to 2"):
        hessian.Hessian(model, images, labels + 3)
    with pytest.raises(ConfigError, match="images are torch.float32 and the weights torch.float64"):
        hessian.Hessian(model, images.float(), labels)
    with pytest.raises(ConfigError, match=r"the net does not fit images of shape \(1, 4, 4\)"):
        hessian.Hessian(model, F.pad(images, (0, 1, 0, 1)), labels)
    with pytest.raises(ConfigError, match="the net returns a tuple; a tensor of one score per class is needed"):
        hessian.Hessian(Pair(model), images, labels)
    h = hessian.Hessian(model, images, labels)
    with pytest.raises(ConfigError, match="vectors of length 3; .* weights are chosen"):
        h.products(torch.ones(1, 3, dtype=torch.float64))
    for probes in (2, 5):
        with pytest.raises(ConfigError, match=f"probes = {probes}: give an even number from 4"):
            hessian.diagonal(h, probes)


def test_shares_by_hand():
    mask = {"a": torch.tensor([True, False, False, True]), "b": torch.tensor([False, True])}
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0, 0.0])
    # removed: 2 + 3 + 10 of 20; by chance: half of 10, and half of 10
    assert hessian.share(values, mask) == (0.75, 0.5)
    other = {n: ~m for n, m in mask.items()}
    assert hessian.share(values, mask).share + hessian.share(values, other).share == 1
    assert hessian.share(torch.ones(6), mask) == (0.5, 0.5)
    # nothing to share: of a flat net, and where a trace's parts cancel out
    for nothing in (torch.zeros(6), torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])):
        assert all(map(math.isnan, hessian.share(nothing, mask)))


def test_the_matched_share_is_the_mean_over_random_masks():
    torch.manual_seed(0)
    values = torch.rand(30)
    mask = {"a": torch.arange(10) < 3, "b": torch.arange(20) < 15}
    draws = []
    for _ in range(2000):
        shuffled = {n: m[torch.randperm(len(m))] for n, m in mask.items()}
        draws.append(hessian.share(values, shuffled).share)
    assert sum(draws) / len(draws) == pytest.approx(hessian.share(values, mask).matched, abs=0.005)


@pytest.mark.gpu
def test_products_on_a_gpu():
    model, images, labels = small(norm=True)
    model, images = model.float(), images.float()
    v = torch.randn(sum(p.numel() for p in model.parameters()))
    here = hessian.Hessian(model, images, labels) @ v
    there = hessian.Hessian(model.cuda(), images.cuda(), labels.cuda()) @ v.cuda()
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5)


def test_the_spectral_density_integrates_to_one_and_has_the_moments_of_the_dense_spectrum():
    model, images, labels = small(norm=True)
    mask = a_mask(model)
    h = hessian.Hessian(model, images, labels, mask)
    values = torch.linalg.eigvalsh(h.dense())
    found = spectrum.density(h, probes=400, steps=8)
    assert torch.allclose(found.weights.sum(1), torch.ones(400, dtype=torch.float64))
    assert found.nodes.shape == (400, 8)
    spread = float(values.abs().max())
    grid = torch.linspace(-3 * spread, 3 * spread, 4001, dtype=torch.float64)
    curve = found.curve(grid, 0.1 * spread)
    assert float(torch.trapezoid(curve, grid)) == pytest.approx(1, abs=1e-6)
    bells = torch.exp(-(((grid[:, None] - values) / (0.1 * spread)) ** 2) / 2).mean(1) / (
        0.1 * spread * math.sqrt(2 * math.pi)
    )
    assert float(torch.trapezoid((curve - bells).abs(), grid)) < 0.15  # in shape too
    for power in (1, 2):
        assert found.moment(power) == pytest.approx(float((values**power).mean()), rel=0.15)


def test_a_full_run_of_lanczos_finds_the_eigenvalues():
    model, images, labels = small()
    mask = {n: m if n.startswith("0") else m & False for n, m in masks.ones(model).items()}  # 12 weights
    h = hessian.Hessian(model, images, labels, mask)
    found = spectrum.density(h, probes=1, steps=50)
    seen = found.nodes[0][found.weights[0] > 0]
    values = torch.linalg.eigvalsh(h.dense())
    assert all(float((values - v).abs().min()) < 1e-8 for v in seen)
    assert float(seen.max()) == pytest.approx(float(values.max()))


def test_the_density_of_a_flat_loss_is_a_point_at_zero():
    model, images, labels = small()
    with torch.no_grad():
        model[-1].weight.zero_()
        model[-1].bias.copy_(torch.tensor([800.0, 0.0, 0.0]))  # so sure of itself that nothing moves it
    found = spectrum.density(hessian.Hessian(model, images, labels * 0), probes=2, steps=5)
    assert not found.nodes.any()
    assert torch.equal(found.weights.sum(1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1, 1e-10])  # flat nets have spectra too
def test_low_rank_ends_lanczos_early_at_every_scale(scale):
    h = hessian.Hessian(*small())
    torch.manual_seed(1)
    axes, _ = torch.linalg.qr(torch.randn(h.size, 3, dtype=torch.float64))
    values = torch.tensor([-1.0, 3.0, 5.0], dtype=torch.float64)
    h.products = lambda vectors: scale * (vectors @ axes * values) @ axes.T
    found = spectrum.density(h, probes=3, steps=8)
    assert found.nodes.shape == (3, 8)
    assert torch.allclose(found.weights.sum(1), torch.ones(3, dtype=torch.float64))
    for nodes, weights in zip(found.nodes / scale, found.weights, strict=True):
        assert nodes[weights > 0].tolist() == pytest.approx(
            [-1, 0, 3, 5], abs=1e-8
        )  # of the rest it sees one point at 0


def test_a_loss_that_is_not_finite_has_no_density():
    model, images, labels = small()
    with torch.no_grad():
        model[-1].weight.fill_(1e308).mul_(1.7)  # finite, but the scores are not
    found = spectrum.density(hessian.Hessian(model, images, labels), probes=2, steps=3)
    assert found.nodes.isnan().all()
    assert found.weights.sum(1).tolist() == pytest.approx([1, 1])
    with pytest.raises(ConfigError, match="probes = 2, steps = 0: give at least 1 of each"):
        spectrum.density(hessian.Hessian(model, images, labels), probes=2, steps=0)


def test_layer_traces_add_to_the_trace():
    model, images, labels = small()
    mask = a_mask(model)
    found = hessian.diagonal(hessian.Hessian(model, images, labels, mask), 8)
    layers = hessian.layer_traces(found.mean, mask)
    assert list(layers) == list(mask)
    assert sum(layers.values()) == pytest.approx(found.trace[0])
