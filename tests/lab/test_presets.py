import pytest

import lotto
from lotto import nets
from lotto.config import ConfigError
from lotto.lab.arms import ARMS
from lotto.lab.describe import Ticket
from lotto.lab.presets import PRESETS


def test_none_keeps_the_presets_value():
    assert lotto.study("cifar10", steps=None).outer.steps == PRESETS["cifar10"]["steps"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", ARMS)
def test_every_method_of_every_preset_describes_a_ticket(preset, method):
    s = lotto.study(preset, own_set="set.safetensors")
    at = 0 if ARMS[method].dense else max(s.levels)
    ticket = s.ticket(method, at, 1)
    assert ticket.level == (1 if ARMS[method].dense and ARMS[method].images else at)
    assert ticket.setup.seed == 1
    assert (ticket.setup.rewind > 0) == ARMS[method].from_k
    assert Ticket(**ticket.model_dump()) == ticket


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_describes_a_net_that_is_built(preset):
    described = lotto.study(preset)
    net = described.setup(0).net.but(width=4)
    classes = {"digits": 10, "cifar10": 10, "cifar100": 100}[described.data.name]
    assert nets.build(net, (1, 8, 8) if preset == "digits" else (3, 32, 32), classes, 0)


@pytest.mark.parametrize("name", ["preset", "variant"])
def test_where_a_study_begins_is_no_parameter(name):
    with pytest.raises(ConfigError, match=f"{name}' is not a parameter of the study"):
        lotto.study("digits", more={name: "cifar10"})
