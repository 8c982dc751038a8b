"""One temporary store for the whole run, one thread, and jaxtyping's shape checks switched on for lotto."""

import os
import tempfile

os.environ.setdefault("LOTTO_HEADLESS", "1")
os.environ.setdefault("LOTTO_STILLS", "0")
if "LOTTO_STORE" not in os.environ:
    _scratch = tempfile.TemporaryDirectory(prefix="lotto-test-")
    os.environ["LOTTO_STORE"] = _scratch.name
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook  # noqa: E402

import tests.shapes  # noqa: E402, F401

SHAPED = [
    "lotto.anatomy",
    "lotto.augment",
    "lotto.data",
    "lotto.distill",
    "lotto.landscape",
    "lotto.masks",
    "lotto.nets",
    "lotto.permute",
    "lotto.scores",
    "lotto.sharpness",
    "lotto.stability",
    "lotto.streams",
    "lotto.tickets",
    "lotto.train",
]
install_import_hook(SHAPED, "tests.shapes.checked")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

import lotto  # noqa: E402

hypothesis.settings.register_profile("lotto", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("lotto")
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    from lotto import data

    try:
        data.check_files(lotto.config.Data(name="cifar10"))
        no_cifar = None
    except data.DataError as error:
        no_cifar = str(error)
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
        if "cifar" in item.keywords and no_cifar:
            item.add_marker(pytest.mark.skip(reason=f"no CIFAR-10: {no_cifar[:80]}"))


@pytest.fixture
def own_store(tmp_path, monkeypatch):
    """A store of the test's own."""
    monkeypatch.setenv("LOTTO_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


TINY = dict(
    seeds=1,
    levels=[1, 2],
    net="resnet18",
    width=2,
    steps=12,
    inner_steps=6,
    distill_steps=3,
    distill_width=4,
    experts=1,
    expert_epochs=2,
    expert_span=1,
    student_steps=2,
    ipc=2,
    rewind=3,
    switch=1,
    train_size=100,
    points=3,
    path_images=50,
    high_levels=[1, 2],
    switches=[0, 1],
    ipcs=[1, 2],
    judge_kinds=["distilled", "subset", "noise"],
    judge_nets=1,
    judge_steps=4,
    judge_batch=8,
    sharp_images=32,
    sharp_probes=4,
    eigenvalues=1,
    planes=["dense", "distilled"],
    map_steps=[6],
    outer_steps=[12],
    rewinds=[3, 6],
    plane_points=3,
)


@pytest.fixture
def tiny():
    """A study of a second or two: everything is there, nothing is learnt."""
    return lambda **more: lotto.study("digits", **{**TINY, **more})


@pytest.fixture
def net():
    """A small net with batch norm, and 40 images for it."""

    def make(seed=0, norm="batch", width=4):
        return lotto.nets.build(lotto.config.Net(name="resnet18", width=width, norm=norm), (1, 8, 8), 4, seed)

    return make


@pytest.fixture
def images():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(40, 1, 8, 8, generator=draw), torch.arange(40) % 4
