import pytest

import lotto
from lotto.config import ConfigError
from lotto.distill.recipes import Trajectory
from lotto.lab.study import Study


def test_text_is_taken_as_the_number_it_spells():
    s = lotto.study("digits", lr="1e-3", seeds="2", steps="50")
    assert (s.outer.lr, s.seeds, s.outer.steps) == (0.001, 2, 50)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lr", "fast", "lr = 'fast'"),
        ("lr", True, "true or false"),
        ("lr", 0, "greater than 0"),
        ("lr", float("nan"), "finite"),
        ("lr", -1, "lr = -1"),
        ("fraction", 1, "fraction = 1"),
        ("fraction", 0, "fraction = 0"),
        ("seeds", 0, "seeds = 0"),
        ("seeds", "1.5", "seeds = '1.5'"),
        ("levels", "4,8", r"levels = '4,8': is text, but a list belongs here; write it as '\[4, 8\]'"),
        ("levels", [8, 4], "rising"),
        ("levels", [0, 4], "level 0"),
        ("levels", [], "at least one level"),
        ("levels", [True], "true or false"),
        ("levels", 4, "levels = 4"),
        ("methods", ["distiled"], "did you mean 'distilled'"),
        ("methods", "imp", "is text, but a list belongs here"),
        ("net", "resnet19", "not known"),
        ("norm", "layer", "norm = 'layer'"),
        ("data", "mnist2", "data = 'mnist2'"),
        ("steps", 0, "steps = 0"),
        ("rewind", 1000, "rewind = 1000: beyond the 200 steps"),
        ("ipc", 0, "ipc = 0"),
        ("weight_decay", 1.5, "weight_decay = 1.5"),
    ],
)
def test_bad_values_are_named(name, value, said):
    with pytest.raises(ConfigError, match=said) as error:
        lotto.study("digits", **{name: value})
    assert "\n" not in str(error.value)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'seeds'"):
        lotto.study("digits", seads=3)
    with pytest.raises(ConfigError, match="preset = 'digit'.*did you mean 'digits'"):
        lotto.study("digit")
    with pytest.raises(ConfigError, match="'imq'.*did you mean 'imp'"):
        lotto.study().ticket("imq", 1, 0)


def test_a_level_is_a_prefix_of_a_longer_search():
    s = lotto.study()
    assert s.ticket("distilled", 8, 0).parent.parent == s.ticket("distilled", 6, 0)
    assert s.ticket("hybrid", s.switch, 0) == s.ticket("distilled", s.switch, 0)
    assert s.ticket("hybrid", s.switch + 1, 0).rounds[-1] == s.ticket("imp", 1, 0).rounds[0]


def test_the_deciding_arms_differ_in_one_thing_only():
    s = lotto.study()
    distilled, short, long, imp = (
        s.ticket(m, 1, 0).rounds[0] for m in ("distilled", "imp-short", "distilled-long", "imp")
    )
    assert distilled.recipe == short.recipe
    assert distilled.images != short.images
    assert distilled.images == long.images
    assert long.recipe == imp.recipe
    assert short.images == imp.images
    assert short.recipe == imp.recipe.but(steps=s.inner.steps)
    assert len({s.ticket(m, 1, 0).rewinding for m in ("distilled", "imp-short", "distilled-long", "imp")}) == 1


def test_each_initialisation_has_its_own_distillation():
    s = lotto.study()
    assert {s.ticket("distilled", 1, k).rounds[0].images.seed for k in range(3)} == {0, 1, 2}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"distill_method": "grad", "grad_width": 16, "grad_ipc": 5},
        {"distill_width": 16, "dist_batch": 9},
        {"traj_factor": 2},
        {"shift": 1, "grad_shift": 0},
    ],
)
def test_a_study_is_what_its_names_say(given):
    study = lotto.study("digits", **given)
    assert Study(**study.named()) == study


def test_a_level_below_the_dense_net_is_refused():
    with pytest.raises(ConfigError, match="level = -5: give 0, the dense net, or the number of rounds"):
        lotto.study("digits").ticket("imp", -5, 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"preset": ["digits"]}, r"preset = \['digits'\]: not known"),
        ({"dist": {1: 2}}, "1.*not known|1 = 2|'1'"),
        ({"own_set": 5}, "own_set = 5"),
    ],
)
def test_values_of_another_type_are_told_in_words(given, said):
    with pytest.raises(ConfigError, match=said):
        lotto.study(**given)


def test_frozen():
    with pytest.raises(Exception, match="frozen"):
        Study().lr = 3


def test_density_after_n_rounds():
    assert lotto.study(fraction=0.2).density(4) == pytest.approx(0.4096)


def test_names_that_are_not_known_are_told_with_those_that_are():
    with pytest.raises(ConfigError, match="data = 'mnst': not known: use digits, cifar10, .* or a file.npz"):
        lotto.study(data="mnst")
    with pytest.raises(ConfigError, match="net = 'vgg': not known: use resnet18, .*'package.module:factory'"):
        lotto.study(net="vgg")
    with pytest.raises(ConfigError, match="planes: 'imq' is not known; did you mean 'imp'?"):
        lotto.study(planes=["imq"])


def test_the_hybrid_lies_between_imp_and_the_distilled_search():
    s = lotto.study()
    assert s.but(switch=0).ticket("hybrid", 8, 1) == s.ticket("imp", 8, 1)
    assert s.but(switch=8).ticket("hybrid", 8, 1) == s.ticket("distilled", 8, 1)
    assert s.but(switch=8).ticket("hybrid-real", 8, 1) == s.ticket("imp-short", 8, 1)
    assert s.ticket("hybrid", 8, 1).rounds[:4] == s.ticket("distilled", 4, 1).rounds


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(sharp_probes=7), "sharp_probes = 7: give an even number"),
        (dict(levels=[0, 4]), "levels = .0, 4.: give at least one level from 1"),
        (dict(switches=[4, 0]), "switches = .4, 0.: give them rising"),
        (dict(ipcs=[10, 1]), "ipcs = .10, 1.: give them rising"),
        (dict(ipcs=[]), "ipcs"),
        (dict(ipcs=[0]), "ipcs"),
    ],
)
def test_lists_of_the_later_notebooks(given, said):
    with pytest.raises(ConfigError, match=said):
        lotto.study(**given)


def test_knowledge_of_classes_needs_a_net_that_learns():
    with pytest.raises(ConfigError, match=r"ce = 0.5: random nets know no classes; give pool = 1 or more"):
        assert lotto.study("digits", distill_ce=0.5).distill
    assert lotto.study("digits", distill_ce=0.5, distill_pool=4).distill.ce == 0.5


@pytest.mark.parametrize("method, rate", [("dist", 0.03), ("grad", 0.1), ("traj", Trajectory().lr)])
def test_each_distillation_has_its_own_rate(method, rate):
    assert lotto.study("digits", distill_method=method).distill.lr == rate
    assert lotto.study("digits", distill_method=method, distill_lr=2).distill.lr == 2


def test_kinds_that_are_none(tiny):
    with pytest.raises(
        ConfigError, match="judge_kinds: 'real' is not a kind of set; use distilled, .*, permuted, own, subset"
    ):
        tiny(judge_kinds=["real"])
