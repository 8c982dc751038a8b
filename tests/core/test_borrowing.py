"""Modules that people bring: each works as plain PyTorch would have it, or is refused by one sentence. README's table
is made of these."""

import copy
import inspect
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.nn.utils import parametrizations, prune

from lotto import masks, modules, nets, reach, scores, tickets, train
from lotto.checkpoint import Checkpoint
from lotto.config import ConfigError, Recipe
from lotto.data import DataError, Split
from lotto.streams import generator

RECIPE = Recipe(steps=5, lr=0.1, batch=8, weight_decay=0.01)


class Net(nn.Module):
    """Named parts and a forward pass over flat images."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.path = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.path(self, x)


def plain():
    return nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4))


def tied():
    model = Net(
        lambda m, x: m.head((x := torch.relu(m.a(m.stem(x.flatten(1))))) + torch.relu(m.b(x))),
        stem=nn.Linear(64, 12),
        a=nn.Linear(12, 12),
        b=nn.Linear(12, 12),
        head=nn.Linear(12, 4),
    )
    model.b.weight = model.a.weight
    return model


def depthwise():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        nn.Conv2d(8, 8, 1),
        nn.Flatten(),
        nn.Linear(128, 4),
    )


def one_dimensional():
    return nn.Sequential(
        nn.Flatten(2), nn.Conv1d(1, 6, 5, 2), nn.GroupNorm(2, 6), nn.ReLU(), nn.Flatten(), nn.Linear(180, 4)
    )


def three_dimensional():
    layers = (
        nn.Unflatten(1, (1, 1)),
        nn.Conv3d(1, 4, (1, 3, 3), padding=(0, 1, 1)),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.Flatten(),
    )
    return nn.Sequential(*layers, nn.Linear(256, 4))


def dropout():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), nn.Dropout2d(0.3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 4)
    )


def unused():
    return Net(lambda m, x: m.used(x.flatten(1)), used=nn.Linear(64, 4), aside=nn.Linear(5, 5))


def now_and_then():
    def path(m, x):
        x = m.stem(x.flatten(1))
        return m.head(x + torch.relu(m.extra(x)) if torch.rand(()) < 0.5 else x)

    return Net(path, stem=nn.Linear(64, 8), extra=nn.Linear(8, 8), head=nn.Linear(8, 4))


def encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
    return Net(
        lambda m, x: m.head(m.layer(m.patch(x).flatten(2).mT).mean(1)),
        patch=nn.Conv2d(1, 16, 2, 2),
        layer=layer,
        head=nn.Linear(16, 4),
    )


def vision_transformer():
    # its head begins at zero and its images have three colours
    made = dict(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4, dropout=0.1
    )
    return Net(lambda m, x: m.vit(x.expand(-1, 3, -1, -1)), vit=torchvision.models.VisionTransformer(**made))


def recurrent():
    return Net(
        lambda m, x: m.head(m.rnn(x.flatten(1, 2))[0][:, -1]), rnn=nn.LSTM(8, 8, batch_first=True), head=nn.Linear(8, 4)
    )


def weight_normed(every=False):
    model = plain()
    for i in (0, 4) if every else (0,):
        parametrizations.weight_norm(model[i])
    return model


ZOO = [plain, tied, depthwise, one_dimensional, three_dimensional, dropout, unused, now_and_then]
ZOO += [encoder, vision_transformer, recurrent, weight_normed]


def matrices(name, p):
    return p.ndim > 1


def make(what, dtype=torch.float64):
    torch.manual_seed(0)
    return what().to(dtype)


@pytest.fixture
def images():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(20, 1, 8, 8, generator=draw, dtype=torch.float64), torch.arange(20) % 4


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def close(a, b):
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], rtol=1e-9, atol=1e-12) for n in a)


def by_hand(model, images, labels, mask):
    """Plain PyTorch: a loop over batches, torch.optim.SGD over the module's own parameters, pruned ones set to 0 around
    each step."""
    model = copy.deepcopy(model).train()
    params = dict(model.named_parameters())
    optimiser = torch.optim.SGD(
        [p for p in params.values() if p.requires_grad], 1.0, 0.9, weight_decay=0.01, nesterov=True
    )

    def cut():
        for n, m in mask.items():
            params[n].data[~m] = 0

    cut()
    with torch.random.fork_rng():
        for step, index, _ in train.batches(len(images), RECIPE, 0, 0, 0, RECIPE.steps):
            torch.manual_seed(generator(0, "dropout", 0, step).initial_seed())
            optimiser.param_groups[0]["lr"] = train.learning_rate(RECIPE, step)
            optimiser.zero_grad()
            F.cross_entropy(model(images[index]), labels[index]).backward()
            optimiser.step()
            cut()
    return modules.copy_state(model)


def find(*args, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(tickets.find(*args, **more))


@pytest.mark.parametrize("what", ZOO)
def test_training_is_that_of_plain_pytorch(what, images):
    model = make(what)
    mask = masks.prune(masks.ones(model), scores.random(masks.ones(model), 0), 0.3)
    assert close(train.train(model, *images, RECIPE, mask).state, by_hand(model, *images, mask))


@pytest.mark.parametrize("what", ZOO)
def test_iterative_pruning_is_that_of_plain_pytorch(what, images):
    """Beside a hand-made search whose cuts are those of torch.nn.utils.prune."""
    model = make(what)
    mask = masks.ones(model)
    for level in find(model, *images, RECIPE, rounds=2, fraction=0.3):
        end = by_hand(model, *images, mask)
        holders = {n: nn.ParameterDict({"weight": end[n]}) for n in mask}
        for n, m in mask.items():
            prune.custom_from_mask(holders[n], "weight", m)
        amount = round(0.3 * masks.count(mask))
        prune.global_unstructured([(h, "weight") for h in holders.values()], prune.L1Unstructured, amount=amount)
        mask = {n: h.weight_mask.bool() for n, h in holders.items()}
        assert equal(level.mask, mask)


@pytest.mark.parametrize("what", ZOO)
def test_a_ticket_loaded_into_the_module_is_masked_and_else_the_start(what, images):
    model = make(what)
    start, level = modules.copy_state(model), find(model, *images, RECIPE, rounds=2, fraction=0.3)[-1]
    assert equal(modules.copy_state(model), start)
    model.load_state_dict(level.state)
    for n, p in model.named_parameters():
        assert torch.equal(p, torch.where(level.mask[n], start[n], 0) if n in level.mask else start[n])
    end = train.train(model, *images, RECIPE, level.mask).state
    model.load_state_dict(end)
    for n, m in level.mask.items():
        assert (model.get_parameter(n)[~m] == 0).all()


@pytest.mark.parametrize("what", ZOO)
def test_equal_noise_gives_equal_nets_and_leaves_the_callers_random_state(what, images):
    model = make(what)
    before = torch.get_rng_state()
    a, b, child = (train.train(model, *images, RECIPE, child=c).state for c in (1, 1, 2))
    assert equal(a, b)
    assert not equal(a, child)
    mask = masks.ones(model)
    for measure in (
        lambda: train.evaluate(model, Split(*images)),
        lambda: reach.dead(model, images[0]),
        lambda: reach.unreachable(model, (1, 8, 8)),
        lambda: [s.tolist() for s in scores.snip(model, *images, mask).values()],
    ):
        assert measure() == measure()
    assert torch.equal(torch.get_rng_state(), before)


class Stop(Exception):
    pass


@pytest.mark.parametrize("what", [dropout, unused, now_and_then, encoder])
def test_killed_and_resumed_is_the_same_to_the_bit(what, images, tmp_path):
    class Failing(Checkpoint):
        def due(self):
            return True

        def save(self, tensors, state):
            super().save(tensors, state)
            if state["step"] == 3:
                raise Stop

    with pytest.raises(Stop):
        train.train(make(what), *images, RECIPE, checkpoint=Failing(tmp_path))
    torch.rand(7)
    resumed = train.train(make(what), *images, RECIPE, checkpoint=Checkpoint(tmp_path))
    assert equal(resumed.state, train.train(make(what), *images, RECIPE).state)


@pytest.mark.parametrize("what", ZOO)
def test_the_warning_names_what_the_mask_leaves_out_and_what_no_image_reaches(what, images):
    expected = {
        "unused": "25 of 281 prunable weights .8.9 %. can never get a gradient, in aside.weight .25.",
        "encoder": (
            "the mask covers 1408 of 2176 weights .64.7 %., as it leaves out layer.self_attn.in_proj_weight .768."
        ),
        "vision_transformer": r"the mask covers 3392 of 5024 weights .67.5 %., as it leaves out vit.class_token .* and 1 more",
        "recurrent": (
            "the mask covers 32 of 544 weights .5.9 %., as it leaves out rnn.weight_ih_l0 .256., rnn.weight_hh_l0 .256."
        ),
    }
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        next(tickets.find(make(what), *images, RECIPE, rounds=1))
    if what.__name__ in expected:
        pytest.raises(UserWarning, warnings.warn, told[0].message).match(expected[what.__name__])
    assert len(told) == (what.__name__ in expected)


@pytest.mark.parametrize("what", [encoder, vision_transformer, recurrent])
def test_whoever_names_the_parameters_prunes_them(what, images):
    """Every matrix, attention's and the recurrent ones included; still the search of plain PyTorch."""
    model = make(what)
    mask = masks.ones(model, matrices)
    assert not masks.uncovered(mask, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        level = next(tickets.find(model, *images, RECIPE, rounds=1, fraction=0.5, prunable=matrices))
    end = by_hand(model, *images, mask)
    assert equal(level.mask, masks.prune(mask, scores.magnitude(end, mask), 0.5))
    assert masks.count(level.mask) == masks.size(mask) - round(0.5 * masks.size(mask))


def test_a_torchvision_resnet18(images):
    """Of full width, in float32, on images of three colours large enough that every weight sees one."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=4)
    some = torch.nn.functional.interpolate(images[0][:8].float(), 64).expand(-1, 3, -1, -1), images[1][:8]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        level = next(tickets.find(model, *some, RECIPE.but(steps=2, batch=4), rounds=1))
    model.load_state_dict(level.state)
    assert masks.count(level.mask) == masks.size(level.mask) - round(0.2 * masks.size(level.mask))
    assert sum(int((p == 0).sum()) for n, p in model.named_parameters() if n in level.mask) == masks.size(
        level.mask
    ) - masks.count(level.mask)
    assert masks.size(level.mask) == sum(
        m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    )


def frozen():
    model = plain()
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    return model


def test_frozen_parameters_are_left_exactly_alone(images):
    model = make(frozen)
    start, mask = modules.copy_state(model), masks.ones(model)
    assert list(mask) == ["4.weight"] and not masks.uncovered(mask, model)
    end = train.train(model, *images, RECIPE, mask).state
    assert close(end, by_hand(model, *images, mask))
    held = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert len(held) == 4
    for n in held:
        assert torch.equal(end[n], start[n])
    assert not torch.equal(end["1.running_mean"], start["1.running_mean"])  # buffers follow the mode, as in PyTorch
    level = find(model, *images, RECIPE, rounds=1)[0]
    assert list(level.mask) == ["4.weight"]
    assert masks.prunable(model, lambda n, p: True) == ["4.weight", "4.bias"]


def test_a_mask_over_frozen_weights_may_only_say_what_is_so(images):
    model = make(plain)
    level = find(model, *images, RECIPE, rounds=1)[0]
    model[0].requires_grad_(False)
    with pytest.raises(
        masks.MaskError,
        match="0.weight is frozen .requires_grad=False., and this mask would prune it: unfreeze it, or leave",
    ):
        train.train(model, *images, RECIPE, level.mask)
    model.load_state_dict(level.state)  # a ticket whose first layer is kept as it is
    assert torch.equal(train.train(model, *images, RECIPE, level.mask).state["0.weight"], level.state["0.weight"])


@pytest.mark.parametrize("rewinding", ["all", "weights", "signs", "weights and signs"])
def test_every_rewind_of_tied_weights_is_one_under_both_names(images, rewinding):
    model = make(tied)
    start = modules.copy_state(model)
    for level in find(model, *images, RECIPE, rounds=2, rewinding=rewinding):
        assert "a.weight" in level.mask and "b.weight" not in level.mask
        assert torch.equal(level.state["a.weight"], level.state["b.weight"])
        assert torch.equal(
            level.state["b.weight"].abs(), torch.where(level.mask["a.weight"], start["a.weight"].abs(), 0)
        )


def test_scores_of_tied_weights_count_both_uses(images):
    """SNIP's |w dL/dw| beside autograd's, the mask on both uses."""
    model = make(tied)
    mask = masks.prune(masks.ones(model), scores.random(masks.ones(model), 0), 0.3)
    found = scores.snip(model, *images, mask)
    with torch.no_grad():
        for n, m in mask.items():
            model.get_parameter(n)[~m] = 0
    F.cross_entropy(model(images[0]), images[1]).backward()
    for n in mask:
        p = model.get_parameter(n)
        assert torch.allclose(found[n], (p * p.grad).abs(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("score", [scores.snip, scores.grasp, None])
@pytest.mark.parametrize("what", [plain, tied, depthwise, one_dimensional, dropout, unused, encoder])
def test_scores_without_training(what, score, images):
    model = make(what)
    mask = masks.ones(model)
    found = score(model, *images, mask) if score else scores.synflow(model, (1, 8, 8), mask)
    assert found.keys() == mask.keys()
    assert all(torch.isfinite(s).all() and s.dtype == torch.float64 for s in found.values())


def test_float64_stays_float64_to_the_loss(images):
    model = make(plain)
    with torch.no_grad():
        expected = float(F.cross_entropy(model.eval()(images[0]), images[1]))
    assert train.evaluate(model, Split(*images))["loss"] == pytest.approx(expected, rel=1e-14)
    assert all(
        t.dtype == torch.float64 for t in train.train(model, *images, RECIPE).state.values() if t.is_floating_point()
    )
    modules.check_fits(model, (1, 8, 8), 4)


def test_float64_images_are_augmented(images):
    recipe = RECIPE.but(shift=1, flip=True, cutmix=0.5, ops=("color", "scale", "rotate", "cutout"))
    end = train.train(make(plain), *images, recipe).state
    assert end["0.weight"].dtype == torch.float64
    assert not equal(end, train.train(make(plain), *images, RECIPE).state)


def bare(function):
    """Without the tests' own shape checks, which speak before the function can."""
    return inspect.unwrap(function)


def pair():
    return Net(lambda m, x: (m.head(x.flatten(1)), x), head=nn.Linear(64, 4))


def pair_in_training():
    return Net(lambda m, x: (m.head(x.flatten(1)), x) if m.training else m.head(x.flatten(1)), head=nn.Linear(64, 4))


def maps():
    return nn.Conv2d(1, 4, 3)


def under_prune():
    model = plain()
    prune.l1_unstructured(model[0], "weight", 0.3)
    return model


def old_weight_norm():
    model = plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it says itself that it is old
        nn.utils.weight_norm(model[0])
    return model


def remembering():
    model = plain()
    model.last = model[4].weight.sum()
    return model


def too_narrow():
    return nn.Sequential(nn.Flatten(), nn.Linear(60, 4))


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(4))


def all_weight_normed():
    return weight_normed(every=True)


def all_frozen():
    return plain().requires_grad_(False)


def three_classes():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


REFUSED = {
    pair: "returns a tuple; a tensor of one score per class is needed: wrap it in a module that picks it",
    pair_in_training: "returns a tuple; a tensor of one score per class is needed",
    maps: r"returns shape \((2|32), 4, 6, 6\) for (2|32) images; \((2|32), classes\) is needed",
    under_prune: "under torch.nn.utils.prune.*torch.nn.utils.prune.remove.layer, 'weight'. for each layer",
    old_weight_norm: (
        "0.weight is computed from other tensors and cannot be copied.*take torch.nn.utils.parametrizations"
    ),
    remembering: "last is computed from other tensors and cannot be copied.*or delete or detach it first",
    too_narrow: r"does not fit images of shape \(1, 8, 8\): mat1 and mat2 shapes cannot be multiplied",
    lazy: "1.weight has no shape yet; run the net on one image first",
    three_classes: "label 3 is 3; labels run from 0 to 2",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_trained_is_refused_by_a_sentence(what, images):
    model = (lambda m: m if what is lazy else m.double())(what())
    with pytest.raises((ConfigError, DataError), match=REFUSED[what]):
        train.train(model, *images, RECIPE)
    with pytest.raises((ConfigError, DataError), match=REFUSED[what]):
        next(tickets.find(model, *images, RECIPE, rounds=1))


@pytest.mark.parametrize("what", [pair, maps, too_narrow])
def test_every_measure_refuses_them_alike(what, images):
    model = what().double()
    mask = {n: torch.ones_like(p, dtype=torch.bool) for n, p in model.named_parameters() if p.ndim > 1}
    for measure in (
        lambda: train.evaluate(model, Split(*images)),
        lambda: reach.dead(model, images[0]),
        lambda: reach.unreachable(model, (1, 8, 8)),
        lambda: scores.snip(model, *images, mask),
        lambda: scores.synflow(model, (1, 8, 8), mask),
        lambda: modules.check_fits(model, (1, 8, 8), 4),
    ):
        with pytest.raises(ConfigError, match="returns a tuple|returns shape|does not fit images of shape"):
            measure()


def test_nothing_prunable_or_trainable_is_refused(images):
    sentence = "no parameter of this net is prunable: .*remove_parametrizations.*name others by a predicate"
    with pytest.raises(masks.MaskError, match=sentence):
        tickets.find(make(all_weight_normed), *images, RECIPE, rounds=1)
    with pytest.raises(masks.MaskError, match=sentence):
        tickets.find(make(plain), *images, RECIPE, rounds=1, prunable=lambda name, p: name == "stem")
    for call in (lambda m: train.train(m, *images, RECIPE), lambda m: tickets.find(m, *images, RECIPE, rounds=1)):
        with pytest.raises(ConfigError, match="no trainable parameter"):
            call(make(all_frozen))


def test_images_of_another_type_or_shape_are_refused_at_the_call(images):
    for other, weights in ((torch.float32, torch.float64), (torch.float64, torch.float32)):
        model, some = make(plain, weights), (images[0].to(other), images[1])
        sentence = rf"images are {other} and the weights {weights}: give images.to\({weights}\), or model.to\({other}\)"
        for call in (train.train, scores.snip):
            with pytest.raises(ConfigError, match=sentence):
                call(model, *some, RECIPE if call is train.train else masks.ones(model))
        with pytest.raises(ConfigError, match=sentence):
            train.evaluate(model, Split(*some))
        with pytest.raises(ConfigError, match=sentence):
            tickets.find(model, *some, RECIPE, rounds=1)
    volumes = images[0].unsqueeze(2), images[1]
    for call in (
        lambda: bare(train.train)(model, *volumes, RECIPE),
        lambda: bare(tickets.find)(model, *volumes, RECIPE, rounds=1),
    ):
        with pytest.raises(
            DataError, match=r"images have shape \(20, 1, 1, 8, 8\).*\(images, channels, height, width\) is needed"
        ):
            call()


def test_a_study_refuses_a_tied_factory(tmp_path, monkeypatch):
    (tmp_path / "tied_net.py").write_text(
        "from torch import nn\n"
        "def make(channels, classes, size):\n"
        "    m = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, classes))\n"
        "    m[2].weight = m[1].weight\n"
        "    return m\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="2.weight is tied to another parameter.*lotto.tickets.find"):
        nets.build(nets.Net(name="tied_net:make"), (1, 8, 8), 4, 0)
