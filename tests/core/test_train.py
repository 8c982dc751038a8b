import copy
import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lotto import augment, flat, masks, modules, train
from lotto.checkpoint import Checkpoint
from lotto.config import ConfigError, Net, Recipe
from lotto.data import DataError, Split
from lotto.nets import build

RECIPE = Recipe(steps=12, lr=0.1, batch=16, shift=1)


def run(model, images, recipe=RECIPE, mask=None, **more):
    return train.train(model, *images, recipe, mask, **more)


def half(model, seed=0):
    ones = masks.ones(model)
    draw = torch.Generator().manual_seed(seed)
    return {n: torch.rand(m.shape, generator=draw) < 0.5 for n, m in ones.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_three_steps_by_hand():
    """One weight, one bias fixed by symmetry: two images +1 and -1 of two classes, logits (w x, 0) in effect."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.5], [-0.5]]))
    images = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1), torch.tensor([0, 1])
    recipe = Recipe(steps=3, lr=0.3, batch=2, momentum=0.9, weight_decay=0.1, schedule="constant", shift=0)
    w, v = 0.5, 0.0
    for _ in range(3):  # both images give the same loss; d loss / d w_0 = -sigmoid(-2 w)
        g = -1 / (1 + math.exp(2 * w)) + 0.1 * w
        v = 0.9 * v + g if v else g
        w -= 0.3 * (g + 0.9 * v)  # Nesterov
    end = run(model, images, recipe).state["1.weight"]
    assert end.flatten().tolist() == pytest.approx([w, -w], abs=1e-6)


@pytest.mark.parametrize(
    "changes", [dict(), dict(momentum=0.0), dict(weight_decay=0.1), dict(schedule="constant", lr=1.0)]
)
def test_pruned_weights_are_exactly_zero_after_every_number_of_steps(net, images, changes):
    model, mask = net(), half(net())
    for stop in (0, 1, 2, 5, 12):
        state = run(model, images, RECIPE.but(**changes), mask, stop=stop).state
        assert all((state[n][~m] == 0).all() and not torch.signbit(state[n][~m]).any() for n, m in mask.items())
    assert all((state[n][m] != 0).float().mean() > 0.99 for n, m in mask.items())


def test_gradient_and_momentum_of_pruned_weights_are_zero_too(net, images, tmp_path, monkeypatch):
    seen = []
    step = torch.optim.SGD.step

    def spy(self, *args, **kwargs):
        out = step(self, *args, **kwargs)
        (p,) = self.param_groups[0]["params"]
        seen.append((p.detach().clone(), p.grad.clone(), self.state[p]["momentum_buffer"].clone()))
        return out

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    model, mask = net(), half(net())
    run(model, images, mask=mask)
    _, live, _ = flat.flatten(copy.deepcopy(model).to(memory_format=torch.channels_last), mask)
    assert len(seen) == 12
    for tensors in seen:
        assert all((t[live == 0] == 0).all() for t in tensors)


@pytest.mark.parametrize(
    "optimiser",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    ],
)
def test_the_masking_holds_for_any_optimiser(net, images, optimiser):
    model, mask = net().to(memory_format=torch.channels_last), half(net())
    whole, live, _ = flat.flatten(model, mask)
    flat.clear(whole.detach(), live)
    opt = optimiser([whole])
    for _ in range(4):
        whole.grad.zero_()
        F.cross_entropy(model(images[0]), images[1]).backward()
        flat.clear(whole.grad, live)
        opt.step()
        assert (whole.detach()[live == 0] == 0).all()
        assert all(
            (s[live == 0] == 0).all()
            for s in opt.state[whole].values()
            if torch.is_tensor(s) and s.shape == whole.shape
        )


def test_clear_lets_no_infinity_through():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        values = torch.tensor([float("inf"), float("nan"), -3.0, -1.0], dtype=dtype)
        live = torch.tensor([0, 0, -1, 0]).to(
            {torch.float32: torch.int32, torch.float64: torch.int64, torch.bfloat16: torch.int16}[dtype]
        )
        flat.clear(values, live)
        assert values.tolist() == [0, 0, -3, 0]


def test_a_dense_mask_is_plain_training_to_the_bit(net, images):
    assert equal(run(net(), images).state, run(net(), images, mask=masks.ones(net())).state)


def test_masked_training_equals_the_thin_nets():
    """Hidden units 3 and 5 of a small net are dead in the one and absent in the other."""
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    keep = torch.tensor([0, 1, 2, 4])
    thin = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        wide[1].bias[[3, 5]] = -1.0  # dead: no input weight, negative bias
        for a, b in (
            (thin[1].weight, wide[1].weight[keep]),
            (thin[1].bias, wide[1].bias[keep]),
            (thin[3].weight, wide[3].weight[:, keep]),
            (thin[3].bias, wide[3].bias),
        ):
            a.copy_(b)
    mask = {n: torch.ones_like(wide.get_parameter(n), dtype=torch.bool) for n in ("1.weight", "3.weight")}
    mask["1.weight"][[3, 5]] = False
    mask["3.weight"][:, [3, 5]] = False
    images = torch.randn(20, 1, 2, 2), torch.arange(20) % 3
    a, b = (run(m, images, RECIPE.but(shift=0), k).state for m, k in ((wide, mask), (thin, None)))
    assert torch.allclose(a["1.weight"][keep], b["1.weight"], atol=1e-6)
    assert torch.allclose(a["3.weight"][:, keep], b["3.weight"], atol=1e-6)


def test_flatten_keeps_the_function_and_the_values(net, images):
    model = net().eval()
    before, state = model(images[0]), modules.copy_state(model)
    model = model.to(memory_format=torch.channels_last)
    flat.flatten(model, masks.ones(model))
    assert equal(modules.copy_state(model), state)
    assert torch.allclose(model(images[0]), before, atol=1e-5)


def test_the_model_given_is_left_as_it_was(net, images):
    model = net().eval()
    before = modules.copy_state(model)
    run(model, images)
    assert equal(modules.copy_state(model), before)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_noise_is_a_function_of_seed_and_child(net, images):
    a, b, child, seed = (run(net(), images, seed=s, child=c).state for s, c in ((0, 1), (0, 1), (0, 2), (1, 1)))
    assert equal(a, b)
    assert not equal(a, child)
    assert not equal(a, seed)


def test_children_differ_in_order_and_in_augmentation():
    one, two = ([(i, d) for _, i, d in train.batches(64, RECIPE, 0, child, 0, 4)] for child in (1, 2))
    assert any(not torch.equal(a[0], b[0]) for a, b in zip(one, two, strict=True))
    by_image = [
        {int(k): (int(r), int(c)) for i, d in run_ for k, r, c in zip(i, d.rows, d.columns, strict=True)}
        for run_ in (one, two)
    ]
    assert by_image[0] != by_image[1]


def test_a_start_in_the_middle_sees_what_a_run_through_sees():
    whole = list(train.batches(50, RECIPE, 0, 1, 0, 12))
    for start in (1, 3, 4, 11):
        for a, b in zip(whole[start:], train.batches(50, RECIPE, 0, 1, start, 12), strict=True):
            assert a[0] == b[0]
            assert torch.equal(a[1], b[1])
            assert torch.equal(a[2].rows, b[2].rows)
    epoch = torch.cat([i for _, i, _ in whole[:3]])
    assert len(set(epoch.tolist())) == 48


@pytest.mark.parametrize("more", [{}, dict(ops=("color", "scale", "rotate", "cutout"), cutmix=0.7)])
def test_killed_and_resumed_is_the_same_to_the_bit(net, images, tmp_path, killed, more):
    mask = half(net())
    through = run(net(), images, RECIPE.but(**more), mask)
    killed(functools.partial(run, net(), images, RECIPE.but(**more), mask), tmp_path, 7)
    resumed = run(net(), images, RECIPE.but(**more), mask, checkpoint=Checkpoint(tmp_path))
    assert equal(through.state, resumed.state)
    assert through.losses == resumed.losses


def test_cutmix_is_a_matter_of_the_noise_and_leaves_the_images(net, images):
    before = images[0].clone()
    recipe = RECIPE.but(cutmix=1.0)
    a, b, plain, never = (
        run(net(), images, r, child=c).state
        for r, c in ((recipe, 1), (recipe, 1), (RECIPE, 1), (RECIPE.but(cutmix=0.0), 1))
    )
    assert equal(a, b)
    assert not equal(a, plain)
    assert equal(plain, never)
    assert torch.equal(images[0], before)


def test_cutmix_by_hand(net, images):
    """One step: the loss of mixed images is the two labels', by area."""
    recipe = RECIPE.but(
        steps=1, cutmix=1.0, shift=0, batch=len(images[0]), schedule="constant", weight_decay=0.0, momentum=0.0
    )
    done = run(net(), images, recipe).state
    model, mix = net().train(), train.generator(0, "cutmix", 0, 0)
    order = next(index for _, index, _ in train.batches(len(images[0]), recipe, 0, 0, 0, 1))
    torch.rand((), generator=mix)
    mixed, other, share = augment.cutmix(images[0][order], mix)
    soft = F.one_hot(images[1][order], 4).float()
    loss = F.cross_entropy(model(mixed), (1 - share) * soft + share * soft[other])
    loss.backward()
    for n, p in model.named_parameters():
        assert torch.allclose(done[n], p.detach() - recipe.lr * p.grad, atol=1e-6)


def test_stop_at_k_then_on_to_the_end_is_the_run_through(net, images, tmp_path):
    """The rewind point is a step of the dense training itself."""
    first = run(net(), images, stop=5)
    run(net(), images, stop=6, checkpoint=Checkpoint(tmp_path, every=0))  # its last state saved is that after step 5
    tensors, state = Checkpoint(tmp_path).load()
    assert state["step"] == 5
    assert all(torch.equal(tensors[f"model.{n}"], t) for n, t in first.state.items())
    assert equal(run(net(), images, checkpoint=Checkpoint(tmp_path)).state, run(net(), images).state)


def test_evaluation_in_between_changes_nothing(net, images):
    a = run(net(), images).state
    model = net()
    train.evaluate(model, Split(*images))
    assert equal(run(model, images).state, a)


def test_a_training_that_diverges_says_so_and_raises_nothing(net, images):
    end = run(net(norm="none"), images, RECIPE.but(lr=1e6, steps=30))
    assert not end.finite


def test_learning_rate_schedules_by_hand():
    r = Recipe(steps=10, lr=1.0)
    assert [round(train.learning_rate(r, s), 4) for s in (0, 1, 2, 9)] == [0.25, 0.75, 0.9375, 0.0625]
    step = r.but(schedule="step", steps=12)
    assert [train.learning_rate(step, s) for s in (0, 7, 8, 9, 10)] == pytest.approx([1, 1, 0.2, 0.2, 0.04])
    assert train.learning_rate(r.but(schedule="constant"), 5) == 1
    assert train.learning_rate(r.but(schedule="cosine"), 5) == pytest.approx((1 + math.cos(math.pi * 0.55)) / 2)


def test_fewer_images_than_a_batch(net, images):
    few = images[0][:5], images[1][:5]
    assert [len(i) for _, i, _ in train.batches(5, RECIPE, 0, 0, 0, 3)] == [5, 5, 5]
    assert run(net(), few).finite


def test_the_error_on_soft_labels_is_that_on_their_likeliest_classes(net, images):
    model, (pixels, labels) = net(), images
    soft = 0.7 * F.one_hot(labels, 4).float() + 0.075
    found = train.evaluate(model, Split(pixels, soft), batch=4)
    assert found["error"] == train.evaluate(model, Split(pixels, labels))["error"]
    with modules.evaluating(model), torch.no_grad():
        assert found["loss"] == pytest.approx(float(F.cross_entropy(model(pixels), soft)), rel=1e-5)


def test_nothing_is_evaluated_on_no_images(net, images):
    with pytest.raises(DataError, match="there are no images to evaluate the net on; give at least one"):
        train.evaluate(net(), Split(images[0][:0], images[1][:0]))


def test_evaluate_weights_every_image_alike(net, images):
    model = net().eval()
    whole, cut = train.evaluate(model, Split(*images)), train.evaluate(model, Split(*images), batch=7)
    assert whole["error"] == cut["error"]
    assert whole["loss"] == pytest.approx(cut["loss"], rel=1e-5)
    with torch.no_grad():
        scores = model(images[0])
    assert whole["error"] == float((scores.argmax(1) != images[1]).float().mean())
    assert whole["loss"] == pytest.approx(float(F.cross_entropy(scores, images[1])))


def test_outcomes():
    labels = torch.arange(500) % 10
    assert train.outcome(0.5, labels, True, False) == "trained"
    assert train.outcome(0.9, labels, True, False) == "failed"
    assert train.outcome(0.87, labels, True, False) == "failed"  # within 3 standard errors (4.0 points) of guessing
    assert train.outcome(0.85, labels, True, False) == "trained"
    assert train.outcome(0.5, labels, False, False) == "diverged"
    assert train.outcome(0.5, labels, True, True) == "dead"


def test_bad_input(net, images):
    with pytest.raises(DataError, match="image 3 holds NaN"):
        run(net(), (images[0].index_fill(0, torch.tensor([3]), float("nan")), images[1]))
    with pytest.raises(masks.MaskError, match="another net"):
        run(net(), images, mask=masks.ones(net(width=2)))
    with pytest.raises(ConfigError, match="stop = 13: the recipe has steps 0 to 12; give one of them"):
        run(net(), images, stop=13)
    with pytest.raises(ConfigError, match="one image is no training set"):
        run(net(), (images[0][:1], images[1][:1]))
    mixed = net()
    mixed.head.double()
    with pytest.raises(ConfigError, match="one type is needed"):
        run(mixed, images)


def test_in_bfloat16_each_step_sees_the_weights_that_the_last_one_left():
    """Autocast's cache would show every step the weights of the first."""
    there = torch.randn(256, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    bright = there, (there.mean((1, 2, 3)) > 0).long()
    model = build(Net(name="convnet", width=8, depth=2), (1, 8, 8), 2, 0)
    recipe = Recipe(steps=60, lr=0.05, batch=64, shift=0)
    fine, coarse = (run(model, bright, recipe.but(precision=p)) for p in ("float32", "bfloat16"))
    assert fine.losses[-1] < 0.6 * fine.losses[0]
    assert coarse.losses == pytest.approx(fine.losses, abs=0.05)
    model.load_state_dict(coarse.state)  # weights and running statistics belong together
    assert train.evaluate(model, Split(*bright))["loss"] == pytest.approx(coarse.losses[-1], abs=0.1)


def test_room_between_parameters_changes_nothing(net, images, monkeypatch, tmp_path):
    """On CUDA each begins at a multiple of 64 elements; a checkpoint has none of that room, and goes on anywhere."""
    mask = half(net())
    close = run(net(), images, mask=mask).state
    monkeypatch.setattr(flat, "room", lambda p: -(-p.numel() // flat.ALIGNED) * flat.ALIGNED)
    whole, live, taken = flat.flatten(net(), mask)
    assert len(whole) % flat.ALIGNED == 0 and int(taken.sum()) == sum(p.numel() for p in net().parameters())
    assert not whole[~taken].any() and not live[~taken].any()
    wide = run(net(), images, mask=mask).state
    assert all(torch.allclose(close[n], wide[n], atol=1e-5) for n in close)
    run(net(), images, mask=mask, stop=5, checkpoint=Checkpoint(tmp_path, every=0))
    monkeypatch.undo()
    on = run(net(), images, mask=mask, checkpoint=Checkpoint(tmp_path)).state
    assert all(torch.allclose(close[n], on[n], atol=1e-5) for n in close)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_on_the_gpu(net, images, precision):
    there = tuple(t.cuda() for t in images)
    mask, recipe = half(net()), RECIPE.but(precision=precision)
    a, b = (train.train(net(), *there, recipe, mask, seed=0, child=1).state for _ in range(2))
    assert equal(a, b)  # equal noise, equal net
    assert all((a[n][~m.cuda()] == 0).all() for n, m in mask.items())
    # after five steps, two of them replayed: later, rounding has grown
    there, here = (run(net(), some, recipe, mask, child=1, stop=5).state for some in (there, images))
    tolerance = {"float32": 1e-4, "tf32": 3e-3, "bfloat16": 3e-2}[precision]
    assert all(torch.allclose(there[n].cpu(), here[n], atol=tolerance, rtol=tolerance) for n in mask)


@pytest.mark.gpu
def test_augmentation_stays_on_the_gpu(images):
    draws = augment.draw(40, 1, True, torch.Generator()).to(torch.device("cuda"))
    assert augment.apply(images[0].cuda(), draws, 1).is_cuda


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "cosine", "step"])
@pytest.mark.parametrize("k", [0, 4, 5, 11, 12])
def test_a_training_that_begins_at_step_k_is_the_tail_of_the_whole(net, images, k, schedule):
    recipe = RECIPE.but(momentum=0.0, schedule=schedule)
    whole, head = run(net(), images, recipe), run(net(), images, recipe, stop=k)
    model = net()
    model.load_state_dict(head.state)
    tail = run(model, images, recipe.but(first=k))
    assert equal(tail.state, whole.state)
    later = len([e for e in range(6) if 2 * e >= k])  # epochs of 2 steps that lie wholly in the tail
    assert tail.losses[len(tail.losses) - later :] == whole.losses[6 - later :]
    assert len(tail.losses) == 6 - k // 2


def test_momentum_is_fresh_at_step_k(net, images):
    head = run(net(), images, stop=5)
    model = net()
    model.load_state_dict(head.state)
    tail, whole = run(model, images, RECIPE.but(first=5)), run(net(), images)
    assert not equal(tail.state, whole.state)


def test_a_resumed_tail_is_the_same_to_the_bit(net, images, tmp_path):
    recipe = RECIPE.but(first=3)
    through = run(net(), images, recipe)
    run(net(), images, recipe, stop=8, checkpoint=Checkpoint(tmp_path, every=0))
    resumed = run(net(), images, recipe, checkpoint=Checkpoint(tmp_path))
    assert equal(through.state, resumed.state)
    assert through.losses[-2:] == resumed.losses[-2:]


def test_first_lies_within_the_schedule(net, images):
    with pytest.raises(ConfigError, match="first = 13: the schedule has 12 steps; give 0 to 12"):
        RECIPE.but(first=13)
    with pytest.raises(ConfigError, match="first = -1"):
        RECIPE.but(first=-1)
    with pytest.raises(ConfigError, match="stop = 2: the recipe has steps 3 to 12"):
        run(net(), images, RECIPE.but(first=3), stop=2)
    assert equal(run(net(), images, RECIPE.but(first=12)).state, modules.copy_state(net()))
