"""compact: by hand where channels die in every way there is, and over random masks of all nets in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from lotto import compact, masks, nets
from lotto.config import ConfigError, Net

SHAPE = (2, 8, 8)


def built(name="convnet", norm="batch", width=4, seed=0, depth=2):
    """A net in float64 and evaluation mode whose norms are not those of an initialisation."""
    model = nets.build(Net(name=name, norm=norm, width=width, depth=depth), SHAPE, 3, seed).double().eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                for t in (module.weight, module.bias):
                    t.copy_(torch.randn(t.shape, generator=draw))
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=draw))
                module.running_var.copy_(0.1 + torch.rand(module.running_var.shape, generator=draw))
    return model


def images(seed=0, n=5):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(model, small):
    with torch.no_grad():
        a, b = model(images()), small(images())
    return torch.allclose(a, b, rtol=1e-10, atol=1e-10 * float(a.abs().max()))


def dies(model, conv, channel, norm, says):
    """Kill the incoming weights of a channel, and let the norm behind make `says` of it."""
    with torch.no_grad():
        model.get_submodule(conv).weight[channel] = 0
        layer = model.get_submodule(norm)
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean[channel] = model.get_submodule(conv).bias[channel]
        layer.bias[channel] = says


def widths(model):
    return {n: len(m.weight) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def test_nothing_goes_from_a_dense_net():
    model = built()
    small = compact.compact(model)
    assert widths(small) == widths(model) and same(model, small)
    assert all(torch.equal(t, small.state_dict()[n]) for n, t in model.state_dict().items())


def test_a_channel_that_says_nothing_goes():
    model = built()
    dies(model, "features.0", 1, "features.1", says=-0.5)
    small = compact.compact(model)
    assert widths(small) == {"features.0": 3, "features.4": 4, "head": 3}
    assert small.features[4].in_channels == 3 and same(model, small)


def test_a_constant_before_padding_is_no_bias():
    """The trap: a padded convolution of a constant is another number at the border."""
    model = built()
    dies(model, "features.0", 1, "features.1", says=0.7)
    with torch.no_grad():
        bias = copy.deepcopy(model)
        bias.features[4].bias += 0.7 * bias.features[4].weight[:, 1].sum((1, 2))
        bias.features[4].weight[:, 1] = 0
    assert not same(model, bias), "a bias would do here, so this guards nothing"
    small = compact.compact(model)
    assert widths(small)["features.0"] == 4, "the constant's channel may not go"
    assert same(model, small)


def test_constants_become_one_channel():
    model = built()
    for channel, says in ((0, 0.7), (2, 0.1), (3, 1.9)):
        dies(model, "features.0", channel, "features.1", says)
    small = compact.compact(model)
    assert widths(small)["features.0"] == 2, "one live channel, and one for three constants"
    assert same(model, small)


def test_a_constant_before_the_head_goes_into_its_bias():
    model = built()
    dies(model, "features.4", 3, "features.5", says=0.7)
    small = compact.compact(model)
    assert widths(small) == {"features.0": 4, "features.4": 3, "head": 3}
    assert not torch.equal(small.head.bias, model.head.bias) and same(model, small)


def test_what_nobody_reads_goes_with_what_it_was_made_from():
    model = built()
    with torch.no_grad():
        model.head.weight[:, 4:12] = 0  # channels 1 and 2, of 4 pixels each
        model.features[4].weight[[0, 3], 2] = 0  # channel 2 of the first convolution is read for these two alone
    small = compact.compact(model)
    assert widths(small) == {"features.0": 3, "features.4": 2, "head": 3} and same(model, small)


def test_a_dead_layer_leaves_a_constant():
    model = built()
    with torch.no_grad():
        model.features[4].weight.zero_()
    small = compact.compact(model)
    assert widths(small) == {"features.0": 1, "features.4": 1, "head": 3} and same(model, small)


def test_instance_norm_takes_the_bias_of_a_dead_channel_away():
    model = built(norm="instance")
    dies(model, "features.0", 1, "features.1", says=-0.5)
    assert model.features[0].bias[1].item() != 0
    small = compact.compact(model)
    assert widths(small)["features.0"] == 3 and same(model, small)


def test_a_residual_stream_keeps_what_one_of_its_writers_still_says():
    model = built("resnet18")
    with torch.no_grad():
        model.stem[0].weight[1] = 0
        model.stem[1].running_mean[1], model.stem[1].bias[1] = 0, -1
    small = compact.compact(model)
    assert small.stem[0].out_channels == 4, "the stem says nothing there, the first block's second convolution does"
    assert same(model, small)
    with torch.no_grad():
        for block in model.stages[0]:
            block.conv2.weight[1] = 0
            block.norm2.running_mean[1], block.norm2.bias[1] = 0, -1
    small = compact.compact(model)
    assert small.stem[0].out_channels == small.stages[0][1].conv2.out_channels == 3
    assert small.stages[1][0].conv1.in_channels == 3 and same(model, small)


def test_a_constant_in_a_residual_stream_that_is_another_number_for_each_reader():
    model = built("resnet18")
    with torch.no_grad():
        for conv, norm, says in (
            (model.stem[0], model.stem[1], 0.3),
            (model.stages[0][0].conv2, model.stages[0][0].norm2, 0.4),
            (model.stages[0][1].conv2, model.stages[0][1].norm2, -0.6),
        ):
            for channel in (1, 2):
                conv.weight[channel] = 0
                norm.running_mean[channel], norm.bias[channel] = 0, says * channel
    small = compact.compact(model)
    assert small.stem[0].out_channels == 3, "two constants become one"
    assert same(model, small)


def test_a_row_of_a_stream_that_is_read_no_more_costs_nothing():
    model = built("resnet18")
    with torch.no_grad():
        for reader in (model.stages[1][0].conv1, model.stages[1][0].shortcut[0], model.stages[0][1].conv1):
            reader.weight[:, 2] = 0
        inner = model.stages[0][0].conv2.weight
        inner[[0, 1, 3], 1] = 0  # channel 1 inside the first block is there for channel 2 of the stream alone
    small = compact.compact(model)
    assert small.stem[0].out_channels == 4, "the first block reads it"
    assert small.stages[0][0].conv1.out_channels == 3, "but what is added to it afterwards is read by nobody"
    assert same(model, small)


NETS = [
    *((n, norm) for n in ("resnet18", "resnet20", "resnet10", "convnet", "vgg16") for norm in ("batch", "instance")),
    *(("vgg16", "none"), ("convnet", "none"), ("resnet10", "none")),
]


@pytest.mark.parametrize(("name", "norm"), NETS)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**16), density=st.sampled_from([0.3, 0.1, 0.03, 0.01, 0.0]))
def test_the_same_outputs_under_random_masks(name, norm, seed, density):
    model = built(name, norm, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    # layers of unequal density, as tickets have: some whole, some nearly gone
    mask = {
        n: torch.rand(m.shape, generator=draw) < density * 3 * torch.rand((), generator=draw)
        for n, m in masks.ones(model).items()
    }
    model.load_state_dict(masks.apply(model.state_dict(), mask))
    before = {n: t.clone() for n, t in model.state_dict().items()}
    small = compact.compact(model)
    assert same(model, small)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items()), "the net itself was changed"
    if density <= 0.01:
        assert sum(widths(small).values()) < sum(widths(model).values())


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "vgg16", "convnet"])
def test_layers_at_one_percent_really_lose_channels(name):
    model = built(name, width=8)
    draw = torch.Generator().manual_seed(0)
    mask = {n: torch.rand(m.shape, generator=draw) < 0.01 for n, m in masks.ones(model).items()}
    model.load_state_dict(masks.apply(model.state_dict(), mask))
    saved = compact.worth(model, compact.compact(model), SHAPE)
    assert sum(b for _, b in saved.channels.values()) < 0.7 * sum(a for a, _ in saved.channels.values())


def test_in_float32():
    model = built("resnet18", width=8).float()
    draw = torch.Generator().manual_seed(0)
    mask = {n: torch.rand(m.shape, generator=draw) < 0.03 for n, m in masks.ones(model).items()}
    model.load_state_dict(masks.apply(model.state_dict(), mask))
    small, x = compact.compact(model), images(n=32).float()
    with torch.no_grad():
        a, b = model(x), small(x)
    assert widths(small) != widths(model)
    assert (a - b).abs().max() < 1e-5 * max(1, a.abs().max())


def test_what_is_saved_by_hand():
    model = built()
    dies(model, "features.0", 1, "features.1", says=-0.5)
    saved = compact.worth(model, compact.compact(model), SHAPE)
    assert saved.channels == {"features.0": (4, 3), "features.4": (4, 4), "head": (3, 3)}
    # convolutions on 8x8 and 4x4 pixels, then a head of 4 channels of 2x2 pixels
    assert saved.multiply_adds == (
        64 * 9 * 2 * 4 + 16 * 9 * 4 * 4 + 3 * 16,
        64 * 9 * 2 * 3 + 16 * 9 * 3 * 4 + 3 * 16,
    )
    assert saved.parameters[0] - saved.parameters[1] == (9 * 2 + 1) + 2 + 9 * 4


def test_from_a_file(tmp_path):
    model = built("resnet10")
    mask = {
        n: torch.rand(m.shape, generator=torch.Generator().manual_seed(1)) < 0.05 for n, m in masks.ones(model).items()
    }
    model.load_state_dict(masks.apply(model.state_dict(), mask))
    small = compact.compact(model)
    save_file(small.state_dict(), tmp_path / "small.safetensors")
    again = compact.load(built("resnet10", seed=7), tmp_path / "small.safetensors")
    assert torch.equal(small(images()), again(images())) and same(model, again)
    with pytest.raises(ConfigError, match="is in only one of the net and the state"):
        compact.load(built("resnet18"), tmp_path / "small.safetensors")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(128, 3)), "of a Sequential are not known"),
        (nets.build(Net(name="resnet10", norm="group", width=12), SHAPE, 3, 0), "several channels together"),
    ],
)
def test_other_nets_are_refused(model, says):
    with pytest.raises(ConfigError, match=says):
        compact.compact(model)
