import pytest
import torch

from lotto import masks, modules, tickets
from lotto.distill.coresets import subset
from lotto.lab import parallel, sources
from lotto.lab.arms import ARMS
from lotto.lab.sets.products import inner_images
from lotto.lab.tickets import figures, products, tables
from lotto.train import train


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("method", [m for m in ARMS if not ARMS[m].dense])
def test_every_method_gives_levels_of_the_exact_size(tiny, method, tmp_path):
    subset(sources.load(tiny().data), 2).save(tmp_path / "own.safetensors")
    study = tiny(methods=[method], own_set=str(tmp_path / "own.safetensors"))
    products.levels(study)
    n = live = masks.size(products.level(study.ticket(method, 0, 0)).tensors)
    for at in (1, 2):
        live -= round(study.fraction * live)
        product = products.level(study.ticket(method, at, 0))
        assert product.metrics["live"] == live == masks.count(product.tensors)
        assert product.metrics["prunable"] == n
        if at == 2:
            assert (
                masks.count(masks.intersection(product.tensors, products.level(study.ticket(method, 1, 0)).tensors))
                == live
            )


def test_the_study_finds_what_find_finds(tiny):
    """The cached levels are the plain algorithm's, bit for bit."""
    study = tiny()
    real = sources.load(study.data)
    model = products.network(study.setup(0))
    small = inner_images(study.data, study.images("distilled", 0))
    for arm, images, what in (
        ("imp", real.train, "weights"),
        ("imp-all", real.train, "all"),
        ("distilled-gentle-all", small, "all"),
        ("distilled", small, "weights"),
        ("distilled-signs", small, "signs"),
        ("distilled-weights-signs", small, "weights and signs"),
    ):
        recipe = study.loop(ARMS[arm])
        expect = list(tickets.find(model, images.images, images.labels, recipe, 2, study.fraction, rewinding=what))
        for at in (1, 2):
            found = products.start_of(study.ticket(arm, at, 0))
            assert equal(found.mask, {n: m.cpu() for n, m in expect[at - 1].mask.items()})
            assert equal(found.state, {n: t.cpu() for n, t in expect[at - 1].state.items()})


def test_the_rewind_point_is_a_step_of_the_dense_training_on_real_data(tiny):
    study = tiny()
    real = sources.load(study.data).train
    point = products.rewind_point(study.setup(0, study.rewind)).tensors
    expect = train(products.network(study.setup(0)), real.images, real.labels, study.outer, stop=study.rewind).state
    assert equal(point, {n: t.cpu() for n, t in expect.items()})
    assert equal(
        products.rewind_point(study.setup(0)).tensors, modules.copy_state(products.network(study.setup(0)).cpu())
    )


def test_level_zero_is_plain_training(tiny):
    study = tiny()
    real = sources.load(study.data).train
    plain = train(products.network(study.setup(0)), real.images, real.labels, study.outer, child=1).state
    assert equal(products.trained(study.training("dense", 0, 0, 1)).tensors, {n: t.cpu() for n, t in plain.items()})


def test_searches_share_their_prefixes(tiny):
    study = tiny()
    assert products.level(study.ticket("hybrid", 1, 0)).path == products.level(study.ticket("distilled", 1, 0)).path


def test_children_never_repeat_the_noise_of_the_search(tiny):
    study = tiny()
    children = {study.training("imp", 1, 0, c).child for c in (1, 2)}
    assert 0 not in children
    assert len(children) == 2


def test_a_search_that_diverges_is_marked_and_the_others_go_on(tiny):
    study = tiny(methods=["imp", "random"], norm="none", lr=100, weight_decay=0.99, steps=60)
    products.levels(study)
    assert products.level(study.ticket("imp", 2, 0)).metrics["state"] == "diverged"
    assert products.level(study.ticket("random", 2, 0)).metrics["state"] == "alive"
    lost = products.trained(study.training("imp", 2, 0, 1))
    assert lost.metrics["state"] == "diverged"
    assert not lost.tensors


def test_a_dead_ticket_is_marked_before_any_training(tiny):
    study = tiny(methods=["random"], fraction=0.9, levels=[1, 2, 3])
    product = products.level(study.ticket("random", 3, 0))
    assert product.metrics["state"] == "dead"
    assert product.metrics["collapsed"]
    assert products.trained(study.training("random", 3, 0, 1)).metrics["passes"] == 0


def test_costs_by_hand(tiny):
    study = tiny(methods=["imp", "distilled", "random"])
    whole = tables.costs(study)
    table = whole[whole.level == 2].set_index("method")
    assert table.loc["imp"].passes == 2 * 12 * 64
    assert table.loc["imp"].stored == 100
    assert table.loc["distilled"].stored == 20
    assert table.loc["distilled"].passes == 2 * 6 * 20
    assert table.loc["distilled"]["with distillation"] == 2 * 6 * 20 + 3 * 32 * 10
    assert table.loc["distilled"]["x fewer passes"] == round(2 * 12 * 64 / 240, 2)
    assert table.loc["random"].passes == 0
    half = whole[whole.level == 1].set_index("method")
    assert half.loc["imp"].passes == 12 * 64
    assert half.loc["distilled"]["with distillation"] == 6 * 20 + 3 * 32 * 10
    assert (table["core-seconds"] >= half["core-seconds"]).all()
    assert table.loc["random"]["core-seconds"] == 0


@pytest.mark.gpu
def test_a_small_study_on_the_gpu(tiny, monkeypatch, own_store):
    monkeypatch.setenv("LOTTO_DEVICE", "cuda")
    study = tiny(methods=["imp", "distilled", "random"])
    products.levels(study)
    product = products.trained(study.training("distilled", 2, 0, 1))
    assert product.metrics["state"] in ("trained", "failed")
    assert product.info["device"] != "cpu"
    assert parallel.jobs() == 1


def test_a_search_goes_on_through_dead_tickets_and_says_so(tiny):
    study = tiny(methods=["dense", "distilled"], levels=[1, 2, 3, 4, 5], fraction=0.9)
    found = [products.level(study.ticket("distilled", at, 0)).metrics for at in study.levels]
    live = found[0]["prunable"]
    for level in found:
        live -= round(0.9 * live)
        assert level["live"] == live
    states = [level["state"] for level in found]
    assert "dead" in states[:-1]
    assert set(states[states.index("dead") :]) == {"dead"}


def test_new_weights_under_the_same_mask(tiny):
    study = tiny()
    old, new = (products.start_of(study.ticket(m, 2, 0)) for m in ("distilled", "reinit"))
    assert all(torch.equal(old.mask[n], new.mask[n]) for n in old.mask)
    n = next(iter(old.mask))
    kept = old.mask[n]
    assert not torch.equal(old.state[n][kept], new.state[n][kept])
    assert not new.state[n][~kept].any()
    other = products.rewind_point(study.setup(products.OTHER)).tensors
    assert all(torch.equal(new.state[n], torch.where(m, other[n], 0)) for n, m in new.mask.items())


def test_norms_kept_are_those_of_the_inner_loop(tiny):
    study = tiny()
    ticket = study.ticket("distilled", 1, 0)
    end = products.trained(products.inner_loop(ticket)).tensors
    state = products.start_of(ticket).state
    assert torch.equal(state["stem.1.weight"], end["stem.1.weight"])
    assert torch.equal(state["stem.1.running_mean"], end["stem.1.running_mean"])
    first = products.rewind_point(ticket.setup).tensors
    assert torch.equal(
        products.start_of(study.ticket("distilled-all", 1, 0)).state["stem.1.weight"], first["stem.1.weight"]
    )


def test_costs_of_sets_that_nets_score_and_of_images_that_hold_several(tiny):
    study = tiny(methods=["distilled", "patches", "herding", "subset", "snip", "grasp"], levels=[2], dist_factor=2)
    table = tables.costs(study).set_index("method")
    scoring = 3 * (100 * 64 + 100)  # three fresh nets: 100 steps of 64, then a look at all 100 images
    assert table.stored.to_dict() == dict.fromkeys(study.arms, 20)
    assert table.decoded.to_dict() == {m: 80 if m in ("distilled", "patches") else 20 for m in study.arms}
    making = (table["with distillation"] - table.passes).to_dict()
    assert making == dict.fromkeys(study.arms, 0) | {"distilled": 3 * 32 * 10, "patches": scoring, "herding": scoring}
    assert (table.passes["snip"], table.passes["grasp"]) == (2 * 20, 2 * 2 * 20)
    assert table.passes["subset"] == 2 * 6 * 20


@pytest.mark.parametrize("method", ["distilled", "imp"])
def test_a_mask_alone_is_the_ticket_s_mask_and_the_initial_net(tiny, method):
    study = tiny()
    ticket, alone = (products.start_of(study.ticket(m, 2, 0)) for m in (method, f"{method}-mask"))
    first = products.rewind_point(study.setup(0)).tensors
    assert equal(ticket.mask, alone.mask) and not equal(ticket.state, alone.state)
    assert equal(alone.state, masks.apply(first, ticket.mask))


def test_controls_of_one_s_own_norms(tiny):
    study = tiny()
    found, shuffled, other = (
        products.start_of(study.ticket(m, 2, 0)) for m in ("distilled-all", "random-layerwise-all", "reinit-all")
    )
    rest = [n for n in found.state if n not in found.mask]
    first, elsewhere = (products.rewind_point(study.setup(s)).tensors for s in (0, products.OTHER))
    assert all(torch.equal(found.state[n], first[n]) and torch.equal(shuffled.state[n], first[n]) for n in rest)
    assert all(torch.equal(other.state[n], elsewhere[n]) for n in rest)
    assert {n: m.sum() for n, m in shuffled.mask.items()} == {n: m.sum() for n, m in found.mask.items()}


def test_a_shuffle_in_filters_keeps_dead_ones_dead(tiny):
    study = tiny()
    found, shuffled = (products.start_of(study.ticket(m, 2, 0)).mask for m in ("distilled", "random-filterwise"))
    assert not equal(found, shuffled)
    assert all(torch.equal(found[n].flatten(1).sum(1), m.flatten(1).sum(1)) for n, m in shuffled.items())


@pytest.mark.parametrize("at", [1, 2])
def test_controls_keep_of_the_inner_loop_what_the_ticket_keeps(tiny, at):
    study = tiny()
    ticket, shuffled, other = (
        products.start_of(study.ticket(m, at, 0)) for m in ("distilled", "random-layerwise", "reinit")
    )
    rest = [n for n in ticket.state if n not in ticket.mask]
    first = products.rewind_point(study.setup(0)).tensors
    assert any(not torch.equal(ticket.state[n], first[n]) for n in rest)
    for control in (shuffled, other):
        assert all(torch.equal(control.state[n], ticket.state[n]) for n in rest)
        assert {n: int(m.sum()) for n, m in control.mask.items()} == {n: int(m.sum()) for n, m in ticket.mask.items()}
    assert not equal(shuffled.mask, ticket.mask)
    assert equal(other.mask, ticket.mask)
    assert all(
        torch.equal(t, torch.where(shuffled.mask[n], first[n], 0))
        for n, t in shuffled.state.items()
        if n in shuffled.mask
    )


def test_round_one_is_the_same_however_a_search_rewinds(tiny):
    study = tiny()
    one, two = (study.ticket(m, 1, 0) for m in ("imp", "imp-all"))
    assert products.inner_loop(one) == products.inner_loop(two)
    assert one.parent == two.parent == study.ticket("dense", 0, 0)
    assert equal(products.level(one).tensors, products.level(two).tensors)
    assert not equal(
        products.level(study.ticket("imp", 2, 0)).tensors, products.level(study.ticket("imp-all", 2, 0)).tensors
    )


def test_a_rewound_net_goes_on_at_step_k_and_its_steps_are_told(tiny):
    study = tiny(methods=["dense-rewound", "imp-rewound", "distilled-rewound"])
    for method, at in (("dense-rewound", 0), ("imp-rewound", 1)):
        run = study.training(method, at, 0, 1)
        assert (run.recipe.first, run.recipe.steps) == (study.rewind, study.outer.steps) == (3, 12)
        assert products.trained(run).metrics["passes"] == 9 * 64
    assert products.trained(products.inner_loop(study.ticket("imp-rewound", 1, 0))).metrics["passes"] == 9 * 64
    assert products.trained(products.inner_loop(study.ticket("distilled-rewound", 1, 0))).metrics["passes"] == 6 * 20
    assert study.training("imp", 1, 0, 1).recipe.first == 0
    costs = tables.costs(study).set_index(["method", "level"])
    assert costs.loc["imp-rewound", 2].passes == 2 * 9 * 64


def test_states_are_counted(compared):
    study, accuracy = compared.study, compared.accuracy
    accuracy = accuracy.assign(state="trained")
    accuracy.loc[(accuracy.method == "imp") & (accuracy.level == 2) & (accuracy.seed == 1), "state"] = "dead"
    heat = figures.states(accuracy, study).data[0]
    row = list(heat.y).index(ARMS["imp"].title)
    assert list(heat.z[row]) == [1, 0.5]
    assert heat.text[row][1] == "1 trained<br>1 dead"


def test_accuracy_stands_against_every_cost(compared):
    costs = tables.costs(compared.study)
    for cost in ("passes", "with distillation", "core-seconds"):
        fig = figures.against_cost(compared.accuracy, costs, compared.study, cost)
        assert [len(t.x) for t in fig.data] == [2, 2, 2]
