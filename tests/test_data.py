import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotto import data
from lotto.config import Data
from lotto.data import DataError


def test_digits_split_is_whole_disjoint_and_stratified():
    real = data.load(Data())
    assert (len(real.train), len(real.held_out), len(real.test), real.shape) == (1200, 97, 500, (1, 8, 8))
    rows = torch.cat([s.images.flatten(1) for s in (real.train, real.held_out, real.test)])
    assert len(rows) == 1797
    train, test = ({tuple(r.tolist()) for r in s.images.flatten(1)} for s in (real.train, real.test))
    assert not train & test
    for s in (real.train, real.test):
        share = s.labels.bincount() / len(s)
        assert (share - 0.1).abs().max() < 0.01


def test_normalised_by_the_training_images_and_back():
    real = data.load(Data())
    assert abs(float(real.train.images.mean())) < 1e-5 and abs(float(real.train.images.std(correction=0)) - 1) < 1e-4
    pixels = real.pixels(real.test.images)
    assert 0 <= float(pixels.min()) and float(pixels.max()) <= 1 + 1e-6
    assert torch.allclose(real.normalise(pixels), real.test.images, atol=1e-5)


def test_the_split_does_not_depend_on_what_ran_before():
    data._load.cache_clear()
    torch.manual_seed(5)
    a = data.load(Data(train_size=200))
    data._load.cache_clear()
    b = data.load(Data(train_size=200))
    assert torch.equal(a.train.images, b.train.images) and len(a.train) == 200


def test_image_size_and_train_size():
    real = data.load(Data(image_size=6, train_size=50))
    assert real.shape == (1, 6, 6) and len(real.train) == 50 and (real.train.labels.bincount() == 5).all()


@pytest.mark.parametrize("values", [dict(train_size=1300), dict(train_size=1200, held_out=98), dict(held_out=1297)])
def test_more_than_there_are(values):
    with pytest.raises(DataError, match="ask for at most"):
        data.load(Data(**values))


@given(st.lists(st.integers(0, 3), min_size=4, max_size=40), st.integers(0, 10**6), st.floats(0, 1))
def test_stratified_properties(labels, seed, share):
    labels = torch.tensor(labels)
    size = int(share * len(labels))
    index = data.stratified(labels, size, torch.Generator().manual_seed(seed))
    assert len(index) == size == len(set(index.tolist()))
    exact = labels.bincount() * size / len(labels)
    assert size == 0 or (labels[index].bincount(minlength=len(exact)) - exact).abs().max() < 1 + 1e-6


def test_per_class_and_too_many():
    labels = torch.tensor([0, 1, 0, 1, 1])
    index = data.per_class(labels, 2, torch.Generator().manual_seed(0))
    assert labels[index].tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="3 images a class asked, but class 0 has 2 training images; ask for at most 2"):
        data.per_class(labels, 3, torch.Generator())


X, Y = torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (X[:, 0], Y, r"shape \(4, 8, 8\)"),
        (X.to(torch.uint8), Y, "torch.uint8; floating-point"),
        (X, Y[:3], r"labels have shape \(3,\)"),
        (X, Y.int(), "torch.int32"),
        (X[:0], Y[:0], "no images"),
        (X, torch.tensor([0, 1, 9, 1]), "label 2 is 9; labels run from 0 to 2"),
        (X, torch.tensor([0, -1, 2, 1]), "label 1 is -1"),
        (X.index_fill(0, torch.tensor([2]), float("nan")), Y, "image 2 holds NaN"),
    ],
)
def test_bad_images(images, labels, said):
    with pytest.raises(DataError, match=said):
        data.check_images(images, labels, 3)


def test_own_images():
    x, y = torch.rand(12, 3, 6, 6), torch.arange(12) % 3
    real = data.own(x, y, x[:6], y[:6])
    assert real.classes == ("0", "1", "2") and torch.allclose(real.pixels(real.train.images), x, atol=1e-6) and len(real.held_out) == 0
    assert real.train.images.mean().abs() < 1e-5


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (torch.rand(4, 1, 8, 8) * 255, Y, r"training pixels run from .*give them in \[0, 1\] .bytes: images.float.. / 255."),
        (torch.zeros(4, 1, 8, 8), torch.tensor([0, 2, 2, 0]), "class 1 has no training image"),
        (torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 7, 0]), "class 2 has no training image"),
    ],
)
def test_own_images_that_will_not_do(images, labels, said):
    with pytest.raises(DataError, match=said):
        data.own(images, labels, torch.zeros(1, 1, 8, 8), torch.tensor([0]))


@pytest.fixture
def cifar_folder(tmp_path, monkeypatch):
    """Ten-byte files under CIFAR-10's names, with their MD5s taken for the right ones."""
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    for name in data.CIFAR10_MD5:
        (place / name).write_bytes(name.encode())
    monkeypatch.setattr(data, "CIFAR10_MD5", {n: hashlib.md5(n.encode()).hexdigest() for n in data.CIFAR10_MD5})
    monkeypatch.setenv("LOTTO_DATA", str(tmp_path))
    data._md5.cache_clear()
    return place


def test_missing_and_damaged_files_are_named_before_anything_is_unpickled(cifar_folder):
    data.check_files(Data(name="cifar10"))
    (cifar_folder / "data_batch_3").write_bytes(b"cut")
    data._md5.cache_clear()
    with pytest.raises(
        DataError, match="data_batch_3 is damaged: its MD5 is .* expected .*; delete it, then run again with --download .170 MB"
    ):
        data.load(Data(name="cifar10"))
    (cifar_folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 is missing; run again with --download .*or set LOTTO_DATA"):
        data.load(Data(name="cifar10"))


@pytest.mark.cifar
def test_real_cifar10():
    real = data.load(Data(name="cifar10", image_size=16, train_size=1000, held_out=500))
    assert (len(real.train), len(real.held_out), len(real.test), real.shape) == (1000, 500, 10000, (3, 16, 16))
    assert real.classes[3] == "cat" and (real.train.labels.bincount() == 100).all()
