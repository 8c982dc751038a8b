import dataclasses
import hashlib
import sys

import numpy as np
import pytest
import torch

from lotto.config import ConfigError, Net
from lotto.data import DataError
from lotto.lab import downloads, sources
from lotto.lab.describe import Data, Setup
from lotto.lab.store import canonical, fingerprint


def test_digits_split_is_whole_disjoint_and_stratified():
    real = sources.load(Data())
    assert (len(real.train), len(real.held_out), len(real.test), real.shape) == (1200, 97, 500, (1, 8, 8))
    rows = torch.cat([s.images.flatten(1) for s in (real.train, real.held_out, real.test)])
    assert len(rows) == 1797
    train, test = ({tuple(r.tolist()) for r in s.images.flatten(1)} for s in (real.train, real.test))
    assert not train & test
    for s in (real.train, real.test):
        share = s.labels.bincount() / len(s)
        assert (share - 0.1).abs().max() < 0.01


def test_normalised_by_the_training_images_and_back():
    real = sources.load(Data())
    assert abs(float(real.train.images.mean())) < 1e-5
    assert abs(float(real.train.images.std(correction=0)) - 1) < 1e-4
    pixels = real.pixels(real.test.images)
    assert 0 <= float(pixels.min())
    assert float(pixels.max()) <= 1 + 1e-6
    assert torch.allclose(real.normalise(pixels), real.test.images, atol=1e-5)


def test_the_split_does_not_depend_on_what_ran_before():
    sources._load.cache_clear()
    torch.manual_seed(5)
    a = sources.load(Data(train_size=200))
    sources._load.cache_clear()
    b = sources.load(Data(train_size=200))
    assert torch.equal(a.train.images, b.train.images)
    assert len(a.train) == 200


def test_image_size_and_train_size():
    real = sources.load(Data(image_size=6, train_size=50))
    assert real.shape == (1, 6, 6)
    assert len(real.train) == 50
    assert (real.train.labels.bincount() == 5).all()


@pytest.mark.parametrize("values", [dict(train_size=1300), dict(train_size=1200, held_out=98), dict(held_out=1297)])
def test_more_than_there_are(values):
    with pytest.raises(DataError, match="ask for at most"):
        sources.load(Data(**values))


@pytest.fixture
def cifar_folder(tmp_path, monkeypatch):
    """Ten-byte files under CIFAR-10's names, with their MD5s taken for the right ones."""
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    for name in downloads.SOURCES["cifar10"].files:
        (place / name).write_bytes(name.encode())
    real = downloads.SOURCES["cifar10"]
    fake = dataclasses.replace(real, files={n: hashlib.md5(n.encode()).hexdigest() for n in real.files})
    monkeypatch.setitem(downloads.SOURCES, "cifar10", fake)
    monkeypatch.setenv("LOTTO_DATA", str(tmp_path))
    downloads._md5.cache_clear()
    return place


def test_missing_and_damaged_files_are_named_before_anything_is_unpickled(cifar_folder):
    downloads.check_files(Data(name="cifar10"))
    (cifar_folder / "data_batch_3").write_bytes(b"cut")
    downloads._md5.cache_clear()
    with pytest.raises(
        DataError,
        match="data_batch_3 is damaged: its MD5 is .* expected .*; delete it, then run again with --download .170 MB",
    ):
        sources.load(Data(name="cifar10"))
    (cifar_folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 is missing; run again with --download .*or set LOTTO_DATA"):
        sources.load(Data(name="cifar10"))


@pytest.mark.parametrize("error", [OSError("no network"), RuntimeError("Error downloading")])
def test_what_cannot_be_fetched_is_told_in_a_sentence(error, monkeypatch):
    def reader(*_, **__):
        raise error

    monkeypatch.setattr("torchvision.datasets.CIFAR10", reader)
    monkeypatch.setenv("LOTTO_DOWNLOAD", "1")
    monkeypatch.setattr(sources, "check_files", lambda data: None)
    with pytest.raises(DataError, match=f"cifar10 could not be fetched to .*: {error}; try again"):
        sources.load(Data(name="cifar10"))


@pytest.mark.cifar
def test_real_cifar10():
    real = sources.load(Data(name="cifar10", image_size=16, train_size=1000, held_out=500))
    assert (len(real.train), len(real.held_out), len(real.test), real.shape) == (1000, 500, 10000, (3, 16, 16))
    assert real.classes[3] == "cat"
    assert (real.train.labels.bincount() == 100).all()


def test_md5s_are_torchvisions():
    from torchvision.datasets import CIFAR10, CIFAR100

    for name, theirs in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        listed = dict([*theirs.train_list, *theirs.test_list, (theirs.meta["filename"], theirs.meta["md5"])])
        assert downloads.SOURCES[name].files == listed
        assert downloads.SOURCES[name].place == theirs.base_folder


def test_mnist_files_are_measured_then_read(tmp_path, monkeypatch):
    place = tmp_path / "FashionMNIST" / "raw"
    place.mkdir(parents=True)
    sizes = {}
    for part, n in (("train", 30), ("t10k", 20)):
        pixels, labels = bytes(range(256)) * 784, bytes(i % 10 for i in range(n))
        for name, head, body in (
            (f"{part}-images-idx3-ubyte", (0x803, n, 28, 28), pixels[: n * 784]),
            (f"{part}-labels-idx1-ubyte", (0x801, n), labels),
        ):
            (place / name).write_bytes(b"".join(h.to_bytes(4, "big") for h in head) + body)
            sizes[name] = (place / name).stat().st_size
    monkeypatch.setenv("LOTTO_DATA", str(tmp_path))
    with pytest.raises(DataError, match="train-images-idx3-ubyte is damaged: its size is 23536, expected 47040016"):
        sources.load(Data(name="fashion-mnist", held_out=0))
    monkeypatch.setitem(
        downloads.SOURCES, "fashion-mnist", dataclasses.replace(downloads.SOURCES["fashion-mnist"], files=sizes)
    )
    real = sources.load(Data(name="fashion-mnist", held_out=5))
    assert (len(real.train), len(real.held_out), len(real.test), real.shape) == (25, 5, 20, (1, 28, 28))
    assert real.classes[9] == "Ankle boot"


def npz(path, n=50, **changes):
    arrays = {
        "images": np.random.default_rng(0).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8),
        "labels": np.arange(n) % 5,
    } | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return Data(name=str(path), held_out=0)


def test_own_files(tmp_path):
    mine = npz(tmp_path / "a.npz")
    real = sources.load(mine)
    assert (len(real.train), len(real.test), real.shape, real.classes) == (40, 10, (3, 8, 8), ("0", "1", "2", "3", "4"))
    assert real.test.labels.bincount().tolist() == [2] * 5  # a fifth of each class
    whole = np.load(tmp_path / "a.npz")["images"].astype("float32") / 255
    found = {tuple(x.round(4)) for x in real.pixels(real.train.images).flatten(1).numpy()}
    assert found <= {tuple(x.round(4)) for x in whole.reshape(50, -1)}
    more = dict(
        test_images=np.zeros((5, 3, 8, 8), dtype=np.float32), test_labels=np.arange(5), classes=np.array(list("abcde"))
    )
    two = npz(tmp_path / "b.npz", **more)
    assert len(sources.load(two).train) == 50
    assert sources.load(two).classes == tuple("abcde")
    assert fingerprint(two) != fingerprint(mine)


def test_a_file_sorted_by_class_is_mixed(tmp_path):
    # the first images stand for all where batch norm is recalibrated and curvature measured
    numbered = np.arange(50, dtype=np.float32).repeat(3 * 8 * 8).reshape(50, 3, 8, 8) / 50
    mine = npz(tmp_path / "a.npz", images=numbered, labels=np.arange(50) // 10)
    real = sources.load(mine)
    assert set(real.train.first(20).labels.tolist()) == set(range(5))
    ids = (real.pixels(real.train.images)[:, 0, 0, 0] * 50).round().long()
    assert ids.unique().numel() == 40 and torch.equal(ids // 10, real.train.labels), "images keep their labels"
    sources._load.cache_clear()
    assert torch.equal(sources.load(mine).train.images, real.train.images)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(images=None), "holds labels, but no `images`; an .npz needs `images`"),
        (dict(labels=np.array(1)), r"`labels` is of shape \(\) and int64; an .npz needs `images`"),
        (dict(images=np.zeros((50, 0, 8, 8))), r"`images` is of shape \(50, 0, 8, 8\) and float64"),
        (
            dict(images=np.zeros((50, 3, 8, 8), dtype=np.longdouble)),
            r"`images` is of shape \(50, 3, 8, 8\) and float128",
        ),
        (dict(labels=np.zeros(50)), "`labels` is of type float64"),
        (dict(images=np.zeros((50, 3, 8, 8), dtype=int)), "`images` is of type int64"),
        (dict(labels=np.array([{}] * 50, dtype=object)), "cannot be read as plain arrays"),
        (dict(images=np.full((50, 3, 8, 8), 2.0)), "pixels run from 2 to 2"),
        (dict(images=np.full((50, 3, 8, 8), np.nan)), "image 0 holds NaN"),
        (dict(images=np.zeros((50, 8, 8), dtype=np.uint8)), "have shape"),
        (dict(labels=np.arange(50) % 5 * 2), "class 1 has no training image"),
        (dict(test_images=np.zeros((5, 3, 8, 8), dtype=np.uint8)), "no `test_labels`"),
        (dict(labels=np.arange(49) % 5), r"labels have shape \(49,\)"),
        (dict(images=np.zeros((30, 3, 8, 8), dtype=np.uint8)), r"\(30,\) of int64 is needed, one an image"),
        (dict(images=np.zeros((0, 3, 8, 8), dtype=np.uint8), labels=np.arange(0)), "there are no images"),
        (dict(labels=np.arange(50)[:, None] % 5), r"labels have shape \(50, 1\)"),
        (dict(labels=np.arange(50) % 5 - 1), "label 0 is -1"),
        (
            dict(labels=np.where(np.arange(50) == 7, 10**12, 0)),
            "a label is 1000000000000 with 50 images",
        ),  # before anything is counted
        (dict(classes=np.array(["a", "b"])), "a label is 4; labels run from 0 to 1"),
        (
            dict(test_images=np.zeros((5, 3, 8, 8), dtype=np.uint8), test_labels=np.arange(5) + 1),
            "a label is 5; labels run from 0 to 4",
        ),
        (
            dict(test_images=np.zeros((5, 3, 4, 4), dtype=np.uint8), test_labels=np.arange(5)),
            r"test images have shape \(3, 4, 4\)",
        ),
        (dict(test_images=np.zeros((5, 3, 8, 8)), test_labels=np.zeros(5)), "`test_labels` is of type float64"),
    ],
)
def test_own_files_that_will_not_do(tmp_path, changes, said):
    with pytest.raises(DataError, match=said):
        sources.load(npz(tmp_path / "a.npz", **changes))


@pytest.mark.parametrize(
    ("pixels", "numbers"), [("float64", "int32"), (">f4", ">i8"), ("float16", "uint8"), ("uint8", "uint16")]
)
def test_own_files_come_in_the_types_nets_take(tmp_path, pixels, numbers):
    one = np.full((50, 1, 8, 8), 1).astype(pixels)
    real = sources.load(npz(tmp_path / "a.npz", images=one, labels=(np.arange(50) % 5).astype(numbers)))
    assert real.train.images.dtype == torch.float32
    assert real.train.labels.dtype == torch.int64
    assert torch.allclose(real.mean, torch.tensor([1 / 255 if pixels == "uint8" else 1.0]))


def test_a_channel_without_contrast_is_no_nan(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    images[:, 2] = 7
    real = sources.load(npz(tmp_path / "a.npz", images=images))
    assert not real.train.images[:, 2].any() and real.train.images.isfinite().all()


def test_too_few_of_one_s_own(tmp_path):
    with pytest.raises(DataError, match="one class; there is nothing to tell apart"):
        sources.load(npz(tmp_path / "a.npz", labels=np.zeros(50, dtype=int)))
    with pytest.raises(DataError, match="of 4 images none can be kept for tests; give `test_images` too"):
        sources.load(npz(tmp_path / "b.npz", n=4))


def test_other_bytes_under_the_same_name_are_other_data(tmp_path):
    mine = npz(tmp_path / "a.npz")
    before, images = fingerprint(mine), sources.load(mine).train.images
    assert fingerprint(mine) == before
    assert sources.load(mine).train.images is images
    npz(tmp_path / "a.npz", labels=np.arange(50)[::-1] % 5, n=50, images=np.zeros((50, 3, 6, 6), dtype=np.uint8))
    assert fingerprint(mine) != before
    assert sources.load(mine).shape == (3, 6, 6)


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        downloads.check_files(Data(name=str(tmp_path / "x.npz")))
    whole = npz(tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:300])
    with pytest.raises(DataError, match="cannot be read as plain arrays"):
        downloads.check_files(whole)


def test_the_source_of_a_factory_is_in_the_key(tmp_path, monkeypatch):
    file = tmp_path / "own_factory.py"
    file.write_text("from torch import nn\ndef net(channels, classes, image_size): return nn.Flatten()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_factory", raising=False)
    described = Setup(net=Net(name="own_factory:net"))
    before = canonical(described)
    file.write_text(file.read_text() + "# changed\n")
    # what was imported is what would be trained, and kept under the key of what is there now
    with pytest.raises(ConfigError, match="its source has changed since it was imported; start Python anew"):
        canonical(described)
    sources._imported.cache_clear()  # as in another process
    assert canonical(described) != before


def test_all_files_of_a_factorys_package_are_in_the_key(tmp_path, monkeypatch):
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .model import net\n")
    (package / "model.py").write_text(
        "from torch import nn\ndef net(channels, classes, image_size): return nn.Flatten()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    described = Setup(net=Net(name="own_package:net"))
    before = canonical(described)
    (package / "model.py").write_text((package / "model.py").read_text() + "# changed\n")
    sources._imported.cache_clear()
    assert canonical(described) != before


@pytest.mark.parametrize("shape", [(32, 16), (16, 32), (16, 16)])
def test_images_that_are_not_square_are_resized_on_both_sides(tmp_path, shape):
    images = np.zeros((50, 1, *shape), dtype="uint8")
    real = sources.load(npz(tmp_path / "a.npz", images=images).model_copy(update={"image_size": 16}))
    assert real.shape == (1, 16, 16)
