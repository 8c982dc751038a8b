"""The CUDA path: on a CPU as far as it goes, with tensors that have that device but no values; the rest on a GPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lotto import augment, compact, masks, modules, train
from lotto.checkpoint import Checkpoint
from lotto.config import Recipe
from lotto.flat import MaskedSGD, clear

CUDA = torch.device("cuda", 0)
RECIPE = Recipe(steps=8, lr=0.3, batch=16, shift=1, flip=True, ops=("color", "scale", "rotate", "cutout"))


def without_values(model):
    """The net with tensors on CUDA that have no values, whatever this machine has."""
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = nn.Parameter(torch.empty(p.shape, dtype=p.dtype, device=CUDA))
        for name, b in module._buffers.items():
            module._buffers[name] = torch.empty(b.shape, dtype=b.dtype, device=CUDA)
    return model


def test_a_step_up_to_its_loss_stays_on_the_device_and_asks_it_nothing(net):
    """A value that the CPU asks for in each step would make it wait for the device, and could not be captured in a
    graph: tensors without values refuse it, and so does an operation on tensors of two devices."""
    model = net()
    drawn = [(i, d) for _, i, d in train.batches(40, RECIPE, 0, 1, 0, 2)]
    with FakeTensorMode(allow_non_fake_inputs=True), train.arithmetic("tf32", CUDA):
        model = without_values(model).train()
        images, labels = torch.empty(40, 1, 8, 8, device=CUDA), torch.empty(40, dtype=torch.int64, device=CUDA)
        mask = {n: torch.empty(m.shape, dtype=torch.bool, device=CUDA) for n, m in masks.ones(model).items()}
        sgd = MaskedSGD(model, mask, RECIPE)
        for index, draws in drawn:
            index, draws = index.to(CUDA), draws.to(CUDA)
            seen = augment.apply(images[index], draws, RECIPE.shift, RECIPE.ops)
            loss = F.cross_entropy(model(seen), labels[index])
            # as far as it goes: autograd's engine and the fused SGD want a real device
            clear(sgd.weights.grad, sgd.live)
        there = {t.device for t in (seen, loss, sgd.momentum, sgd.weights, sgd.weights.grad, *model.buffers())}
        assert there == {CUDA}
        with pytest.raises(DataDependentOutputException):
            float(loss)


def test_arithmetic_on_cuda_is_deterministic_and_puts_back_what_was():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def now():
        return cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32

    before = now()
    for precision in ("float32", "tf32"):
        with train.arithmetic(precision, CUDA):
            assert now() == (True, False, precision == "tf32", precision == "tf32")
        assert now() == before


class Dropping(nn.Module):
    """A net that draws from the global generator in training."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))

    def forward(self, x):
        return self.layers(x)


def equal(a, b):
    return all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.gpu
def test_dropout_is_keyed_and_the_global_state_left_alone(images):
    there, recipe = [t.cuda() for t in images], Recipe(steps=8, lr=0.1, batch=40)
    torch.manual_seed(0)
    model, before = Dropping(), torch.cuda.get_rng_state()
    once, again, other = (train.train(model, *there, recipe, child=c).state for c in (1, 1, 2))
    assert equal(once, again), "equal noise, equal net"
    assert not equal(once, other), "children draw differently"
    assert torch.equal(before, torch.cuda.get_rng_state())


@pytest.mark.gpu
def test_a_resumed_training_is_the_same_to_the_bit(net, images, tmp_path):
    there = [t.cuda() for t in images]
    through = train.train(net(), *there, RECIPE).state
    train.train(net(), *there, RECIPE, stop=5, checkpoint=Checkpoint(tmp_path, every=0))
    assert equal(through, train.train(net(), *there, RECIPE, checkpoint=Checkpoint(tmp_path)).state)


@pytest.mark.gpu
def test_a_compacted_net_says_the_same(net, images):
    model = net(width=8).cuda().eval()
    draw = torch.Generator().manual_seed(0)
    mask = {n: (torch.rand(m.shape, generator=draw) < 0.02).cuda() for n, m in masks.ones(model).items()}
    model.load_state_dict(masks.apply(modules.copy_state(model), mask))
    small = compact.compact(model)
    with torch.no_grad(), train.arithmetic("float32", CUDA):
        torch.testing.assert_close(small(images[0].cuda()), model(images[0].cuda()), rtol=1e-5, atol=1e-5)
