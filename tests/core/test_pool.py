import pytest
import torch

from lotto.distill.pool import Pool, random_net
from lotto.distill.recipes import Distill, Gradient


@pytest.fixture(scope="module")
def real(digits):
    return digits(100)


POOL = Distill(ipc=2, width=4, batch=8, pool=3, life=2)


def test_the_matching_net_has_no_statistics_and_fresh_weights_each_step(real):
    a, b = (random_net(POOL, real, 0, step) for step in (0, 1))
    assert not list(a.buffers())
    assert not torch.equal(a.features[0].weight, b.features[0].weight)


def test_nets_of_a_pool_take_turns_and_are_of_all_ages(real):
    pool, seen = Pool(POOL, real, 0), []
    for step in range(12):
        learner = pool.at(step)
        assert learner is pool.at(step)
        seen.append(learner.number)
        learner.learn(step)
    assert [n % 3 for n in seen] == [0, 1, 2] * 4  # slots take turns
    assert all(seen.count(n) <= POOL.life for n in seen)
    assert len(set(seen)) > 4
    replaced = [s for s in range(3, 12) if seen[s] != seen[s - 3]]
    assert {s % 3 for s in replaced} == {0, 1, 2}
    assert len({s // 3 for s in replaced}) > 1  # not all at once
    one = Pool(Gradient(ipc=2, width=4, pool=1, life=5), real, 0)
    assert [one.at(s).number for s in range(12)] == [s // 5 for s in range(12)]
