import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lotto import modules, nets
from lotto.config import ConfigError, Net


@pytest.mark.parametrize(
    ("net", "shape", "parameters"),
    [
        (Net(name="resnet18", width=64), (3, 32, 32), 11_173_962),  # the usual count of the CIFAR ResNet-18
        (
            Net(name="resnet20", width=16),
            (3, 32, 32),
            272_474,
        ),  # with 1x1 shortcuts (option B): 2,752 above option A's 269,722
        (Net(name="resnet10", width=64), (3, 32, 32), 4_903_242),  # one block a stage
        # convolutions 14,710,464, norms 2 x 4,224, linear 5,130: as torchvision's vgg16_bn without biases and hidden
        # linear layers
        (Net(name="vgg16", width=64), (3, 32, 32), 14_710_464 + 2 * 4224 + 5130),
        (Net(name="convnet", width=128, norm="instance"), (3, 32, 32), 320_010),  # DC's ConvNet-3 (Zhao et al. 2021)
    ],
)
def test_parameter_counts(net, shape, parameters):
    assert sum(p.numel() for p in nets.build(net, shape, 10, 0).parameters()) == parameters


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
@pytest.mark.parametrize("name", ["resnet18", "resnet20", "resnet10", "vgg16", "convnet"])
def test_every_net_with_every_norm(name, norm):
    size = 32 if name == "vgg16" else 16
    model = nets.build(Net(name=name, norm=norm, width=4, depth=2), (1, size, size), 7, 0)
    assert model(torch.zeros(2, 1, size, size)).shape == (2, 7)
    assert modules.has_batch_norm(model) == (norm == "batch")


def test_initial_weights_are_a_function_of_the_seed_and_leave_the_global_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    a, b, c = (modules.copy_state(nets.build(Net(), (1, 8, 8), 10, s)) for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert not torch.equal(a["head.weight"], c["head.weight"])


def test_he_initialisation():
    model = nets.build(Net(width=64, init="he"), (3, 8, 8), 10, 0)
    w = model.stages[2][1].conv1.weight
    assert abs(float(w.detach().std()) - (2 / (w.shape[0] * 9)) ** 0.5) < 1e-3


def test_one_pixel_instance_norm_is_refused():
    with pytest.raises(ConfigError, match="1-pixel images.*use depth 3 or less"):
        nets.build(Net(name="convnet", norm="instance", depth=4), (1, 8, 8), 10, 0)
    with pytest.raises(ConfigError, match="halved away"):
        nets.build(Net(name="convnet", depth=4), (1, 8, 8), 10, 0)


def test_nets_that_see_one_pixel_through_instance_norm_are_refused(factory):
    with pytest.raises(
        ConfigError, match="the same scores for two different images.*instance norm on features of one pixel"
    ):
        nets.build(Net(name="own_nets:one_pixel"), (1, 8, 8), 10, 0)


@pytest.mark.parametrize("side", [4, 8, 16, 28])
@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_the_studys_nets_leave_instance_norm_more_than_one_pixel(name, side):
    nets.build(Net(name=name, norm="instance", width=4), (1, side, side), 10, 0)


def test_deep_nets_whose_scores_differ_by_little_are_taken(factory):
    # a signal that 13 layers of PyTorch's initialisation have shrunk to less than float32's rounding is a signal
    for seed in range(4):
        nets.build(Net(name="vgg16", width=4, norm="none"), (1, 8, 8), 10, seed)
    with pytest.raises(ConfigError, match="the same scores"):
        nets.build(Net(name="own_nets:one_pixel"), (1, 16, 16), 10, 0)


def test_small_images_pass_through_vgg():
    assert nets.build(Net(name="vgg16", width=4), (1, 8, 8), 10, 0)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


FACTORY = """
from torch import nn
def good(channels, classes, image_size): return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size ** 2, classes))
def wrong_size(channels, classes, image_size): return nn.Sequential(nn.Flatten(), nn.Linear(7, classes))
def wrong_classes(channels, classes, image_size): return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size ** 2, 3))
def one_pixel(channels, classes, image_size):
    shrunk = nn.Conv2d(channels, 4, image_size), nn.GroupNorm(4, 4), nn.ReLU()
    return nn.Sequential(*shrunk, nn.Flatten(), nn.Linear(4, classes))
def no_module(channels, classes, image_size): return 3
def two_arguments(channels, classes): return good(channels, classes, 8)
def no_parameters(channels, classes, image_size): return nn.Flatten()
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_broken.py").write_text("def net(:\n")
    yield tmp_path / "own_nets.py"
    sys.modules.pop("own_nets", None)


def test_own_factory(factory):
    assert isinstance(nets.build(Net(name="own_nets:good"), (1, 8, 8), 10, 0), nn.Sequential)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_nets:absent", "cannot be imported"),
        ("no_such_package:net", "cannot be imported.*PYTHONPATH"),
        ("own_nets:no_module", "a torch.nn.Module is needed"),
        ("own_nets:wrong_size", r"does not fit images of shape \(1, 8, 8\)"),
        ("own_nets:wrong_classes", r"returns shape \(2, 3\)"),
        ("own_nets:two_arguments", r"factory\(channels=1, classes=10, image_size=8\) raises TypeError: .*positional"),
        ("own_nets:no_parameters", "has no parameters; give a net with weights to train"),
        ("own_broken:net", "cannot be imported, as its module raises SyntaxError: .*own_broken.py, line 1"),
        ("os:name", "is a str; a function of channels, classes and image_size is needed"),
    ],
)
def test_factories_that_will_not_do(factory, name, said):
    with pytest.raises(ConfigError, match=said):
        nets.build(Net(name=name), (1, 8, 8), 10, 0)


def test_recalibration_is_exact_on_one_batch_and_leaves_the_rest(net, images):
    model = net().train()
    state = modules.copy_state(model)
    modules.recalibrate(model, images[0])
    moved = {n for n, t in modules.copy_state(model).items() if not torch.equal(t, state[n])}
    assert moved == {n for n in state if "running" in n or "num_batches" in n}
    assert all(m.momentum == 0.1 and m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    first = model.stem[0](images[0])
    assert torch.allclose(model.stem[1].running_mean, first.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(model.stem[1].running_var, first.var((0, 2, 3)), atol=1e-6)


def test_recalibration_in_batches_takes_a_sorted_set_for_what_it_is():
    # 32 images of 0, then 32 of 1: batches of neighbours would have no variance at all
    model = nn.Sequential(nn.BatchNorm2d(1))
    images = torch.tensor([0.0, 1.0]).repeat_interleave(32)[:, None, None, None].expand(64, 1, 2, 2)
    modules.recalibrate(model, images, batch=16)
    assert model[0].running_mean.item() == pytest.approx(0.5)
    assert model[0].running_var.item() == pytest.approx(0.25 * 64 / 63)  # of 16 images of 4 pixels, unbiased


def test_recalibration_that_fails_leaves_the_momentum(net, images):
    model = net()
    with pytest.raises(RuntimeError):
        modules.recalibrate(model, images[0].double())
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_recalibration_without_batch_norm_does_nothing(net, images):
    model = net(norm="group")
    before = modules.copy_state(model)
    modules.recalibrate(model, images[0])
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_evaluating_gives_every_modules_mode_back(net):
    model = net().train()
    model.stem[1].eval()  # a frozen layer stays frozen
    with modules.evaluating(model):
        assert not any(m.training for m in model.modules())
    assert model.training
    assert not model.stem[1].training


@pytest.mark.parametrize(
    ("side", "strides"),
    [(8, (1, 2, 2, 1)), (16, (1, 2, 2, 2)), (28, (1, 2, 2, 2)), (32, (1, 2, 2, 2)), (4, (1, 2, 1, 1))],
)
def test_a_resnet_halves_while_two_pixels_remain(side, strides):
    model = nets.build(Net(name="resnet18", width=4), (1, side, side), 10, 0)
    assert tuple(stage[0].conv1.stride[0] for stage in model.stages) == strides
    assert model.stages(model.stem(torch.zeros(2, 1, side, side))).shape[-1] >= 2


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_a_convolution_is_torchs(side, stride, bias):
    """Its values, gradients and second derivatives, in both layouts: on 2x2 pixels it is a matrix product."""
    torch.manual_seed(0)
    mine, torchs = nets.Conv(3, 5, stride, bias).double(), nn.Conv2d(3, 5, 3, stride, 1, bias=bias).double()
    torchs.load_state_dict(mine.state_dict())
    for order in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(4, 3, side, side, dtype=torch.float64).to(memory_format=order).requires_grad_()
        outs = [m.to(memory_format=order)(x) for m in (mine, torchs)]
        upstream, along = torch.randn_like(outs[0]), torch.randn_like(x)
        found = []
        for out, m in zip(outs, (mine, torchs), strict=True):
            over = (x, *m.parameters())
            first = torch.autograd.grad((out.sin() * upstream).sum(), over, create_graph=True)
            found.append((out, *first, *torch.autograd.grad((first[0] * along).sum(), over)))
        assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*found, strict=True))


def test_a_convolution_of_two_by_two_pixels_multiplies_no_padding():
    with FlopCounterMode(display=False) as counter:
        nets.Conv(3, 5)(torch.zeros(7, 3, 2, 2))
    assert counter.get_total_flops() == 2 * 7 * (4 * 3) * (4 * 5)  # not 2 * 7 * 4 * 9 * 3 * 5


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("before", "after", "side"), [(4, 8, 8), (3, 5, 7), (16, 32, 2), (1, 1, 1)])
def test_a_pointwise_convolution_is_torchs(stride, before, after, side):
    torch.manual_seed(0)
    mine, torchs = nets.Pointwise(before, after, stride), nn.Conv2d(before, after, 1, stride, bias=False)
    torchs.load_state_dict(mine.state_dict())  # one name, one shape: states and counts are those of a convolution
    x = torch.randn(5, before, side, side, requires_grad=True)
    outs = [m(x) for m in (mine, torchs)]
    assert outs[0].shape == outs[1].shape
    assert torch.allclose(*outs, atol=1e-6)
    upstream = torch.randn(outs[0].shape)
    grads = [
        torch.autograd.grad((out * upstream).sum(), (x, m.weight)) for out, m in zip(outs, (mine, torchs), strict=True)
    ]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*grads, strict=True))


def test_the_layout_in_memory():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")

    def narrow(channels, stride, kernel):
        return nn.Sequential(nn.Conv2d(1, channels, 3), nn.Conv2d(channels, 8, kernel, stride))

    assert (
        modules.layout(nets.build(Net(width=4), (1, 8, 8), 10, 0), cpu) == torch.channels_last
    )  # its shortcuts have no stride of their own
    assert modules.layout(narrow(4, 2, 1), cpu) == modules.layout(narrow(15, (1, 2), 1), cpu) == torch.contiguous_format
    assert modules.layout(narrow(4, 2, 1), cuda) == torch.channels_last
    for channels, stride, kernel in ((16, 2, 1), (4, 1, 1), (4, 2, 3)):
        assert modules.layout(narrow(channels, stride, kernel), cpu) == torch.channels_last
