"""The CUDA path: on a CPU as far as it goes, with tensors that have that device but no values; the rest on a GPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lotto import augment, compact, masks, modules, nets, replay, train
from lotto.checkpoint import Checkpoint
from lotto.config import Net, Recipe
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
    with FakeTensorMode(allow_non_fake_inputs=True), modules.arithmetic("tf32", CUDA):
        model = without_values(model).train()
        images, labels = torch.empty(40, 1, 8, 8, device=CUDA), torch.empty(40, dtype=torch.int64, device=CUDA)
        mask = {n: torch.empty(m.shape, dtype=torch.bool, device=CUDA) for n, m in masks.ones(model).items()}
        sgd = MaskedSGD(model, mask, RECIPE)
        for _, index, draws in train.batches(40, RECIPE, 0, 1, 0, 2, CUDA):
            assert {t.device for t in (index, *draws)} == {CUDA}
            seen = augment.apply(images[index], draws, RECIPE.shift, RECIPE.ops)
            loss = F.cross_entropy(model(seen), labels[index])
            # as far as it goes: autograd's engine and the fused SGD want a real device
            clear(sgd.weights.grad, sgd.live)
        there = {t.device for t in (seen, loss, sgd.momentum, sgd.weights, sgd.weights.grad, *model.buffers())}
        assert there == {CUDA}
        with pytest.raises(DataDependentOutputException):
            float(loss)


def _legacy(on):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


def _today(how):
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = how


@pytest.mark.parametrize(
    "choice",
    [
        lambda: None,
        lambda: _legacy(True),
        lambda: _legacy(False),
        lambda: _today("tf32"),
        lambda: _today("ieee"),
        lambda: torch.set_float32_matmul_precision("medium"),
    ],
)
def test_arithmetic_on_cuda_is_deterministic_and_puts_back_what_was(choice):
    """Whichever of PyTorch's two ways, which do not mix, the caller has chosen."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    floats = (matmul, cudnn.conv, cudnn.rnn)

    def now():
        told = []
        for ask in (torch.get_float32_matmul_precision, lambda: cudnn.allow_tf32, lambda: matmul.allow_tf32):
            try:
                told.append(ask())
            except RuntimeError:  # the caller has mixed them
                told.append("mixed")
        return cudnn.deterministic, cudnn.benchmark, *(f.fp32_precision for f in floats), *told

    first = [f.fp32_precision for f in floats]
    try:
        choice()
        before = now()
        for precision in ("float32", "tf32"):
            with modules.arithmetic(precision, torch.device("cpu")):
                assert now()[:5] == (True, False, *["tf32" if precision == "tf32" else "ieee"] * 3)
            assert now() == before
    finally:
        torch.set_float32_matmul_precision("highest")
        _legacy(True)
        matmul.allow_tf32 = False
        for f, was in zip(floats, first, strict=True):
            f.fp32_precision = was


class Dropping(nn.Module):
    """A net that draws from the global generator in training."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))

    def forward(self, x):
        return self.layers(x)


def equal(a, b):
    return all(torch.equal(a[n], b[n]) for n in a)


@pytest.fixture
def recorded(monkeypatch):
    """Steps are replayed, with stand-ins for the device: a recording is the work on the inputs it was recorded with."""
    made = []

    def record(stream, work, *inputs):
        made.append(inputs)
        return lambda: work(*inputs)

    monkeypatch.setattr(replay, "possible", lambda model, device: True)
    monkeypatch.setattr(replay, "_stream", lambda: None)
    monkeypatch.setattr(replay, "_beside", lambda stream, work, *inputs: work(*inputs))
    monkeypatch.setattr(replay, "_recorded", record)
    return made


def test_a_training_is_recorded_once_and_every_step_gets_its_own_images(net, images, monkeypatch, tmp_path, recorded):
    there = train.train(net(), *images, RECIPE.but(ops=()), seed=0, child=1)
    assert [tuple(t.shape) for t in recorded[0]] == [(16, 1, 8, 8), (16,)] and len(recorded) == 1
    train.train(net(), *images, RECIPE.but(ops=()), seed=0, child=1, stop=5, checkpoint=Checkpoint(tmp_path, every=0))
    on = train.train(net(), *images, RECIPE.but(ops=()), seed=0, child=1, checkpoint=Checkpoint(tmp_path))
    train.train(net(), *images, RECIPE.but(cutmix=0.5))
    assert len(recorded) == 3, "and once after the stop, but not where boxes of other images are drawn in Python"
    monkeypatch.setattr(replay, "possible", lambda model, device: False)
    plain = train.train(net(), *images, RECIPE.but(ops=()), seed=0, child=1)
    assert equal(plain.state, there.state) and equal(plain.state, on.state) and plain.losses == there.losses


def test_what_can_be_replayed(monkeypatch):
    monkeypatch.setattr(replay, "_current", lambda: 0)
    for name in nets.BUILDERS:
        model = nets.build(Net(name=name, width=8), (3, 32, 32), 4, 0)
        assert replay.possible(model, CUDA) and not replay.possible(model, torch.device("cpu"))
    assert not replay.possible(nn.Sequential(model, nn.Dropout(0.1)), CUDA)
    assert not replay.possible(nn.Sequential(Dropping()), CUDA), "a module of anybody else"
    hooked = nn.Sequential(nn.Linear(4, 4))
    assert replay.possible(hooked, CUDA)
    assert not replay.possible(hooked, torch.device("cuda", 1)), "recordings are made on the current device"
    for register in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
        handle = getattr(hooked[0], f"register_{register}")(lambda *_: None)
        assert not replay.possible(hooked, CUDA), register
        handle.remove()
    hooked[0].forward = lambda x: x
    assert not replay.possible(hooked, CUDA)
    assert not replay.possible(nn.BatchNorm2d(4, momentum=None), CUDA)


class Idle(nn.Module):
    """A net with a layer that no image goes through."""

    def __init__(self):
        super().__init__()
        self.seen, self.idle = nn.Conv2d(1, 8, 3, bias=False), nn.Linear(4, 4)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.norm(self.seen(x)).relu().mean((2, 3)))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("idle", [False, True])
def test_a_replayed_training_is_the_plain_one(net, images, monkeypatch, precision, idle):
    monkeypatch.setattr(Idle, "__module__", "lotto.nets")
    there, recipe = [t.cuda() for t in images], RECIPE.but(ops=(), precision=precision, weight_decay=0.1)
    torch.manual_seed(0)
    model = Idle() if idle else net()
    assert replay.possible(model, CUDA)
    mask = {n: torch.rand(m.shape) < 0.5 for n, m in masks.ones(model).items()}
    fast, again = (train.train(model, *there, recipe, mask, child=1) for _ in range(2))
    monkeypatch.setattr(replay, "ON", False)
    slow = train.train(model, *there, recipe, mask, child=1)
    assert equal(fast.state, again.state)
    assert equal(fast.state, slow.state) and fast.losses == slow.losses
    assert not idle or torch.equal(fast.state["idle.weight"].cpu(), model.idle.weight.detach() * mask["idle.weight"])


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
    with torch.no_grad(), modules.arithmetic("float32", CUDA):
        torch.testing.assert_close(small(images[0].cuda()), model(images[0].cuda()), rtol=1e-5, atol=1e-5)
