import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lotto import landscape, masks, modules, scores
from lotto.config import ConfigError
from lotto.data import Split
from lotto.train import evaluate


@pytest.fixture
def three(net):
    """Three states of one net that share a mask, their parameters' names, and the mask."""
    model = net()
    torch.manual_seed(0)
    mask = {n: torch.rand_like(m.float()) < 0.5 for n, m in masks.ones(model).items()}
    names = [n for n, _ in model.named_parameters()]
    states = [
        masks.apply(
            {n: t + 0.1 * torch.randn(t.shape) if n in names else t for n, t in model.state_dict().items()}, mask
        )
        for _ in "abc"
    ]
    return model, states, names, mask


def dot(a, b, names):
    return float(sum((a[n].double() * b[n].double()).sum() for n in names))


def test_the_plane_holds_its_three_states_and_its_axes_are_orthonormal(three):
    _, states, names, _ = three
    p = landscape.plane(*states, parameters=names)
    for state, corner in zip(states, p.corners, strict=True):
        found = p.at(*corner)
        assert all(torch.allclose(found[n], state[n], atol=1e-5) for n in names)
    assert dot(p.u, p.u, names) == pytest.approx(1, abs=1e-6)
    assert dot(p.v, p.v, names) == pytest.approx(1, abs=1e-6)
    assert dot(p.u, p.v, names) == pytest.approx(0, abs=1e-6)
    assert p.corners[1][1] == 0


def test_pruned_weights_stay_zero_and_buffers_stay_theirs(three):
    _, states, names, mask = three
    far = landscape.plane(*states, parameters=names).at(3.7, -2.1)
    assert all(not far[n][~m].any() for n, m in mask.items())
    assert all(t.dtype == far[n].dtype and torch.equal(far[n], t) for n, t in states[0].items() if n not in names)


def test_states_on_one_line_are_refused(three):
    _, (a, b, _), names, _ = three
    middle = {n: (t + b[n]) / 2 if n in names else t for n, t in a.items()}
    with pytest.raises(ValueError, match="on one line"):
        landscape.plane(a, b, middle, parameters=names)
    with pytest.raises(ValueError, match="two of the three states are equal"):
        landscape.plane(a, a, b, parameters=names)


def test_a_survey_at_the_corners_is_the_recalibrated_ends(three, images):
    model, states, names, _ = three
    split = Split(*images)
    before = modules.copy_state(model)
    p = landscape.plane(*states, parameters=names)
    found = landscape.survey(
        model, p._replace(corners=((0.0, 0.0), p.corners[1], (0.0, 1.0))), split, split, points=3, margin=0
    )
    assert found["x"] == [0, p.corners[1][0] / 2, p.corners[1][0]]
    assert found["y"] == [0, 0.5, 1]
    model.load_state_dict(states[1])
    modules.recalibrate(model, split.images)
    own = evaluate(model, split)
    assert found["test_error"][0][2] == own["error"]
    assert found["train_loss"][0][2] == pytest.approx(own["loss"], rel=1e-4)
    model.load_state_dict(before)
    landscape.survey(model, p, split, split, points=2)
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in before.items())


def tied():
    """A net with one weight under two names, and a state of it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 4))
    model[3].weight = model[1].weight
    return model, modules.copy_state(model)


def test_a_survey_moves_tied_weights_under_all_their_names(images):
    split, children = Split(*images), [tied()[1]]
    for _ in "bc":
        model, _ = tied()
        with torch.no_grad():
            for p in model.parameters():
                p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(children)))
        children.append(modules.copy_state(model))
    model, _ = tied()
    p = landscape.plane(*children, parameters=[n for n, _ in model.named_parameters()])
    found = landscape.survey(model, p._replace(corners=((0, 0), p.corners[1], (0, 1))), split, split, 2, margin=0)
    model.load_state_dict(children[1])
    assert found["train_loss"][0][1] == pytest.approx(evaluate(model, split)["loss"], rel=1e-4)


def test_a_survey_takes_tensors_of_five_dimensions_and_needs_two_points(three, images):
    model = nn.Sequential(nn.Unflatten(1, (1, 1)), nn.Conv3d(1, 2, 1), nn.Flatten(), nn.Linear(128, 4))
    state, split = modules.copy_state(model), Split(*images)
    other = [{**state, n: state[n] + 1} for n in ("1.bias", "3.bias")]
    p = landscape.plane(state, *other, parameters=[n for n, _ in model.named_parameters()])
    found = landscape.survey(model, p, split, split, points=2, margin=0)
    assert found["train_loss"][0][0] == evaluate(model, split)["loss"]
    with pytest.raises(ValueError, match="points = 1: give at least 2"):
        landscape.survey(model, p, split, split, points=1)


def test_a_direction_of_a_parameter_of_one_dimension_is_as_long_entry_by_entry():
    state = {"bias": torch.tensor([1.0, -2.0, 3.0])}
    way = landscape.direction(state, {"bias": torch.tensor([True, True, False])})
    assert way["bias"].abs().tolist() == pytest.approx([1, 2, 0])


def test_a_direction_stays_in_the_mask_and_has_the_nets_filters_lengths(three):
    _, (state, *_), _, mask = three
    way = landscape.direction(state, mask, 3)
    assert set(way) == set(mask)
    for n, m in mask.items():
        assert not way[n][~m].any()
        assert torch.allclose(way[n].flatten(1).norm(dim=1), state[n].flatten(1).norm(dim=1), rtol=1e-4, atol=1e-6)
    assert torch.equal(way["head.weight"], landscape.direction(state, mask, 3)["head.weight"])
    assert not torch.equal(way["head.weight"], landscape.direction(state, mask, 4)["head.weight"])


def test_the_rise_begins_at_zero_and_leaves_the_net_alone(three, images):
    model, (state, *_), _, mask = three
    model.load_state_dict(state)
    modules.recalibrate(model, images[0])
    before = modules.copy_state(model)
    found = landscape.rise(model, mask, Split(*images), (0.0, 0.5, 2.0), directions=3)
    assert [len(r) for r in found] == [3, 3, 3]
    assert found[0] == [0.0] * 3
    assert len(set(found[2])) == 3
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    with pytest.raises(masks.MaskError, match="another net"):
        landscape.rise(model, {"x": torch.ones(2, dtype=torch.bool)}, Split(*images), (0.5,))


def test_the_rise_moves_tied_weights_under_all_their_names(images):
    (model, state), split = tied(), Split(*images)
    mask = {"1.weight": torch.ones(64, 64, dtype=torch.bool)}
    start = evaluate(model, split, precision="float32")["loss"]
    found = landscape.rise(model, mask, split, (0.5,), directions=1)
    with torch.no_grad():
        model[1].weight += 0.5 * landscape.direction(state, mask, 0, 1, 0)["1.weight"]
    assert found == [[evaluate(model, split, precision="float32")["loss"] - start]]
    assert found[0][0] != 0


def test_the_rise_of_a_quadratic_by_hand():
    # one weight w and two classes: scores (w x, 0); a direction is +-|w|, so a step of radius 1 goes to 0 or to 2 w
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[3.0], [0.0]]))
    some = Split(torch.ones(4, 1, 1, 1), torch.zeros(4, dtype=torch.int64))
    mask = {"1.weight": torch.tensor([[True], [False]])}
    losses = {w: float(torch.log1p(torch.exp(torch.tensor(-w)))) for w in (0.0, 3.0, 6.0)}
    found = landscape.rise(model, mask, some, (1.0,), directions=8)[0]
    assert all(min(abs(v - (losses[w] - losses[3.0])) for w in (0.0, 6.0)) < 1e-6 for v in found)


def test_the_rise_is_measured_in_float32_and_all_else_in_tf32(three, images):
    """The flag is there without a GPU too: what a forward pass sees of it is what its kernels would take."""
    (model, (state, *_), _, mask), seen = three, []
    model.load_state_dict(state)
    model.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.conv.fp32_precision))
    landscape.rise(model, mask, Split(*images), (0.5,), directions=1)
    assert seen == ["ieee"] * 2
    evaluate(model, Split(*images))
    modules.recalibrate(model, images[0])
    assert seen == ["ieee"] * 2 + ["tf32"] * 2


def test_sam_is_the_length_of_the_gradient_to_first_order(net, images):
    model, pixels, labels = net().double(), images[0].double(), images[1]
    modules.recalibrate(model, pixels)
    mask, before = masks.prune(masks.ones(model), scores.random(masks.ones(model), 0), 0.5), modules.copy_state(model)
    with modules.evaluating(model):
        loss = F.cross_entropy(model(pixels), labels)
    grads = torch.autograd.grad(loss, [dict(model.named_parameters())[n] for n in mask])
    length = math.sqrt(sum(float((g * m).square().sum()) for g, m in zip(grads, mask.values(), strict=True)))
    assert landscape.sam(model, pixels, labels, mask, rho=1e-5) == pytest.approx(1e-5 * length, rel=1e-3)
    assert landscape.sam(model, pixels, labels, mask, rho=0.5) > 0
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert model.head.weight.grad is None


def test_a_loss_that_is_not_finite_has_no_rise(images):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4)).double()
    with torch.no_grad():
        model[1].weight.fill_(1.7e308)  # finite, but the scores are not
    assert math.isnan(landscape.sam(model, images[0].double(), images[1], masks.ones(model)))


def test_sam_refuses_a_net_that_returns_more_than_scores(images):
    class Pair(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)), x

    model = Pair(64, 4)
    with pytest.raises(ConfigError, match="the net returns a tuple; a tensor of one score per class is needed"):
        landscape.sam(model, *images, masks.ones(model))


@pytest.mark.parametrize("batch", [512, 3])  # 3: four images in batches of 3 and 1, each image weighted alike
def test_sam_by_hand(batch):
    # one live weight w and two classes: scores (w x, 0), loss log(1 + exp(-w x)), which rises as w falls
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[3.0], [0.0]]))
    images = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).view(4, 1, 1, 1)
    mask = {"1.weight": torch.tensor([[True], [False]])}
    mean = {w: sum(math.log1p(math.exp(-w * x)) for x in (1, 2, 3, 4)) / 4 for w in (3.0, 2.5)}
    found = landscape.sam(model, images, torch.zeros(4, dtype=torch.int64), mask, rho=0.5, batch=batch)
    assert found == pytest.approx(mean[2.5] - mean[3.0], rel=1e-9)
    assert model.training
    assert model[1].weight.grad is None
