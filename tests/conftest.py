"""One temporary store for the whole run, one thread, and jaxtyping's shape checks switched on for lotto."""

import os
import tempfile

os.environ.setdefault("LOTTO_HEADLESS", "1")
os.environ.setdefault("LOTTO_STILLS", "0")
os.environ.pop("LOTTO_SCHEDULER", None)
if "LOTTO_STORE" not in os.environ:
    _scratch = tempfile.TemporaryDirectory(prefix="lotto-test-")
    os.environ["LOTTO_STORE"] = _scratch.name
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook  # noqa: E402

import tests.shapes  # noqa: E402, F401

SHAPED = [
    "lotto.augment",
    "lotto.checkpoint",
    "lotto.compact",
    "lotto.data",
    "lotto.distill",
    "lotto.hessian",
    "lotto.landscape",
    "lotto.masks",
    "lotto.nets",
    "lotto.scores",
    "lotto.stability",
    "lotto.stats",
    "lotto.streams",
    "lotto.symmetry",
    "lotto.tickets",
    "lotto.train",
    "lotto.lab.sources",
    *(f"lotto.lab.{room}" for room in ("sets", "tickets", "stability", "sharpness", "causes")),
]
install_import_hook(SHAPED, "tests.shapes.checked")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

import lotto  # noqa: E402
from lotto.checkpoint import Checkpoint  # noqa: E402

hypothesis.settings.register_profile("lotto", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("lotto")
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    from lotto.data import DataError
    from lotto.lab import downloads, sources

    try:
        downloads.check_files(sources.Data(name="cifar10"))
        no_cifar = None
    except DataError as error:
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


@pytest.fixture(scope="session")
def tiny_parameters():
    """Parameters of a study of a second or two: everything is there, nothing is learnt."""
    return dict(
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


@pytest.fixture(scope="session")
def tiny(tiny_parameters):
    """tiny(**more): the study of `tiny_parameters`, some of them changed."""
    return lambda **more: lotto.study("digits", **{**tiny_parameters, **more})


@pytest.fixture(scope="session")
def digits():
    """digits(size): so many training images of the digits, with their held-out and test images."""
    from lotto.lab import sources

    return lambda size=None: sources.load(sources.Data(train_size=size))


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


class Killed(Exception):
    """Raised in the middle of a computation, as a signal would end it."""


class Dying(Checkpoint):
    """Saves at every step, and dies right after it has saved `left` times."""

    def __init__(self, folder, left):
        super().__init__(folder, every=0)
        self.left = left

    def save(self, tensors, state):
        super().save(tensors, state)
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.fixture
def killed():
    """killed(compute, folder, after): runs compute(checkpoint=...) until it has saved so many states in `folder`, and
    ends it there."""

    def run(compute, folder, after):
        with pytest.raises(Killed):
            compute(checkpoint=Dying(folder, after))

    return run
