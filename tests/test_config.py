import pytest

import lotto
from lotto.config import PRESETS, ConfigError, Distill, Gradient, Images, Recipe, Round, Setup, Study, Ticket, Trajectory
from lotto.lab.arms import ARMS


def test_text_is_taken_as_the_number_it_spells():
    s = lotto.study("digits", lr="1e-3", seeds="2", steps="50")
    assert (s.lr, s.seeds, s.steps) == (0.001, 2, 50)


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


def test_none_keeps_the_presets_value():
    assert lotto.study("cifar10", steps=None).steps == PRESETS["cifar10"]["steps"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", ARMS)
def test_every_method_of_every_preset_describes_a_ticket(preset, method):
    s = lotto.study(preset, own_set="set.safetensors")
    at = 0 if ARMS[method].dense else max(s.levels)
    ticket = s.ticket(method, at, 1)
    assert ticket.level == (1 if ARMS[method].dense and ARMS[method].images else at) and ticket.setup.seed == 1
    assert (ticket.setup.rewind > 0) == ARMS[method].from_k
    assert Ticket(**ticket.model_dump()) == ticket


def test_a_level_is_a_prefix_of_a_longer_search():
    s = lotto.study()
    assert s.ticket("distilled", 8, 0).parent.parent == s.ticket("distilled", 6, 0)
    assert s.ticket("hybrid", s.switch, 0) == s.ticket("distilled", s.switch, 0)
    assert s.ticket("hybrid", s.switch + 1, 0).rounds[-1] == s.ticket("imp", 1, 0).rounds[0]


def test_the_deciding_arms_differ_in_one_thing_only():
    s = lotto.study()
    distilled, short, long, imp = (s.ticket(m, 1, 0).rounds[0] for m in ("distilled", "imp-short", "distilled-long", "imp"))
    assert distilled.recipe == short.recipe and distilled.images != short.images
    assert distilled.images == long.images and long.recipe == imp.recipe and short.images == imp.images
    assert short.recipe == imp.recipe.but(steps=s.inner_steps)
    assert len({s.ticket(m, 1, 0).rewinding for m in ("distilled", "imp-short", "distilled-long", "imp")}) == 1


def test_each_initialisation_has_its_own_distillation():
    s = lotto.study()
    assert {s.ticket("distilled", 1, k).rounds[0].images.seed for k in range(3)} == {0, 1, 2}


def test_incomplete_descriptions_are_refused():
    with pytest.raises(ConfigError, match="need `distill`"):
        Images(kind="distilled")
    with pytest.raises(ConfigError, match="take no `ipc`"):
        Images(kind="real", ipc=3)
    with pytest.raises(ConfigError, match="needs `images`"):
        Round()
    with pytest.raises(ConfigError, match="takes no `images`"):
        Round(score="random", images=Images(), recipe=Recipe())
    with pytest.raises(ConfigError, match="rewind = 500"):
        Setup(rewind=500)


def test_frozen():
    with pytest.raises(Exception, match="frozen"):
        Study().lr = 3


def test_density_after_n_rounds():
    assert lotto.study(fraction=0.2).density(4) == pytest.approx(0.4096)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_describes_a_net_that_is_built(preset):
    from lotto import nets

    described = lotto.study(preset)
    net = described.setup(0).net.but(width=4)
    classes = {"digits": 10, "cifar10": 10, "cifar100": 100}[described.data]
    assert nets.build(net, (1, 8, 8) if preset == "digits" else (3, 32, 32), classes, 0)


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
        (dict(high_levels=[]), "high_levels"),
        (dict(high_levels=[0, 4]), "high_levels = .0, 4.: give at least one level from 1"),
        (dict(switches=[4, 0]), "switches = .4, 0.: give them rising"),
        (dict(ipcs=[10, 1]), "ipcs = .10, 1.: give them rising"),
        (dict(ipcs=[]), "ipcs"),
        (dict(ipcs=[0]), "ipcs"),
    ],
)
def test_lists_of_the_later_notebooks(given, said):
    with pytest.raises(ConfigError, match=said):
        lotto.study(**given)


@pytest.mark.parametrize("kind", [Recipe, Distill])
def test_fields_that_came_later_change_no_older_key(kind):
    plain = kind().model_dump(mode="json")
    assert not kind.later & set(plain) and kind(**plain) == kind()
    for name, value in {"ops": ["cutout"], "cutmix": 0.5, "pool": 3, "factor": 2}.items():
        if name in kind.later:
            dump = kind(**{name: value}).model_dump(mode="json")
            assert dump[name] == value and kind(**dump) == kind(**{name: value})
            assert dump == {**plain, name: value}


@pytest.mark.parametrize("recipe", [Distill(pool=2, life=20, net_steps=2, factor=2), Gradient(life=20, factor=2), Trajectory(), Distill()])
def test_a_distillation_is_read_back_as_what_it_was(recipe):
    images = Images(kind="distilled", distill=recipe)
    assert Images(**images.model_dump()).distill == recipe == Images(**images.model_dump(mode="json")).distill


def test_knowledge_of_classes_needs_a_net_that_learns():
    with pytest.raises(ConfigError, match=r"ce = 0.5: random nets know no classes; give pool = 1 or more"):
        assert lotto.study("digits", distill_ce=0.5).distillation
    assert lotto.study("digits", distill_ce=0.5, distill_pool=4).distillation.ce == 0.5


@pytest.mark.parametrize("method, rate", [("dist", 0.03), ("grad", 0.1), ("traj", Trajectory().lr)])
def test_each_distillation_has_its_own_rate(method, rate):
    assert lotto.study("digits", distill_method=method).distillation.lr == rate
    assert lotto.study("digits", distill_method=method, distill_lr=2).distillation.lr == 2
