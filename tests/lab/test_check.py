import sys

import numpy as np
import pytest

from lotto.config import ConfigError
from lotto.data import DataError
from lotto.lab.check import check


def test_an_image_that_holds_several_needs_as_many_real_ones(tiny):
    with pytest.raises(
        DataError, match=r"ipc = 3: the smallest class has \d+ training images, and one stored holds 4; give at most 2"
    ):
        check(tiny(train_size=100, ipc=3, distill_factor=2))


def test_a_class_that_lost_its_images_to_those_held_out(tiny, tmp_path):
    labels = np.repeat([0, 1, 2], [40, 40, 3])
    images = np.random.default_rng(0).integers(0, 256, (83, 1, 8, 8), dtype=np.uint8)
    tests = dict(test_images=images[:6], test_labels=np.arange(6) % 3)
    np.savez(tmp_path / "a.npz", images=images, labels=labels, **tests)
    few = tiny(data=str(tmp_path / "a.npz"), train_size=10, held_out=20, ipc=1)
    with pytest.raises(DataError, match="a class has no training image left; give more of it, or a smaller held_out"):
        check(few)


def test_check_refuses_before_anything_is_computed(tiny, monkeypatch):
    with pytest.raises(DataError, match="ipc = 50: the smallest class has .* training images"):
        check(tiny(ipc=50))
    with pytest.raises(
        ConfigError, match=r"methods = \['dense', 'dense-norms'\]: dense networks alone.* such as 'imp'"
    ):
        check(tiny(methods=["dense", "dense-norms"]))
    with pytest.raises(ConfigError, match="depth = 4"):
        check(tiny(distill_depth=4))
    with pytest.raises(ConfigError, match="cannot be imported"):
        check(tiny(net="nowhere:net"))
    monkeypatch.setenv("LOTTO_DATA", "/nonexistent")
    with pytest.raises(DataError, match="data_batch_1 is missing"):
        check(tiny(data="cifar10"))


@pytest.mark.parametrize(
    ("first", "seeds", "fine"),
    [(95, 5, True), (96, 5, False), (0, 101, False), (109, 1, False), (103, 3, False), (110, 3, True)],
)
def test_initialisations_of_the_reference_run_are_kept_for_it(tiny, first, seeds, fine):
    study = tiny(first_seed=first, seeds=seeds)
    if fine:
        assert check(study) is study
        return
    with pytest.raises(
        ConfigError,
        match=f"first_seed = {first} with seeds = {seeds}: initialisations 100 to 109 are the reference run's.*110",
    ):
        check(study)


NARROWING = """
from torch import nn
def net(channels, classes, image_size):
    halves = [layer for i in range(3) for layer in (nn.Conv2d(2 if i else channels, 2, 3, 2, 1), nn.ReLU())]
    return nn.Sequential(*halves, nn.Conv2d(2, 2, 3, 1, 1), nn.Flatten(), nn.Linear(2, classes))
"""


def test_a_net_with_weights_out_of_reach_is_refused(tiny, tmp_path, monkeypatch):
    (tmp_path / "narrowing.py").write_text(NARROWING)
    monkeypatch.syspath_prepend(tmp_path)
    # 8, 4, 2, 1 pixels a side: the third kernel has 4 of 9 taps in the image, the fourth 1; in all 18 + 3 x 36 + 20
    # weights
    said = r"net = 'narrowing:net' at 8 pixels: 52 of 146 prunable weights \(35.6 %\) can never get a gradient, "
    said += r"in 4.weight \(20\), 6.weight \(32\)"
    with pytest.raises(ConfigError, match=said + ".*take larger images, or a net that halves them less often"):
        check(tiny(net="narrowing:net"))
    sys.modules.pop("narrowing", None)
