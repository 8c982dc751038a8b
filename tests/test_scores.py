import torch

from lotto import masks, scores


def test_magnitude_reads_the_present_weights(net):
    model = net()
    mask = masks.ones(model)
    with torch.no_grad():
        model.head.weight.fill_(-3)
    assert (scores.magnitude(dict(model.named_parameters()), mask)["head.weight"] == 3).all()


def test_random_is_keyed_and_uniform_over_all_layers(net):
    mask = masks.ones(net(width=8))
    a, b, other = scores.random(mask, 0, "score", 1), scores.random(mask, 0, "score", 1), scores.random(mask, 0, "score", 2)
    assert all(torch.equal(a[n], b[n]) for n in a) and not torch.equal(a["head.weight"], other["head.weight"])
    kept = masks.prune(mask, a, 0.5)
    for m in kept.values():
        if m.numel() > 2000:
            assert abs(float(m.float().mean()) - 0.5) < 0.05


def test_scorers_leave_the_global_random_state_alone(net):
    mask = masks.ones(net())
    before = torch.get_rng_state()
    scores.random(mask, 0)
    assert torch.equal(before, torch.get_rng_state())
