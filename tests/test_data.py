import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotto import data
from lotto.config import Data
from lotto.data import DataError
from lotto.store import fingerprint


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
    for name in data.SOURCES["cifar10"].files:
        (place / name).write_bytes(name.encode())
    real = data.SOURCES["cifar10"]
    fake = dataclasses.replace(real, files={n: hashlib.md5(n.encode()).hexdigest() for n in real.files})
    monkeypatch.setitem(data.SOURCES, "cifar10", fake)
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


def test_md5s_are_torchvisions():
    from torchvision.datasets import CIFAR10, CIFAR100

    for name, theirs in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        listed = dict([*theirs.train_list, *theirs.test_list, (theirs.meta["filename"], theirs.meta["md5"])])
        assert data.SOURCES[name].files == listed and data.SOURCES[name].place == theirs.base_folder


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
        data.load(Data(name="fashion-mnist", held_out=0))
    monkeypatch.setitem(data.SOURCES, "fashion-mnist", dataclasses.replace(data.SOURCES["fashion-mnist"], files=sizes))
    real = data.load(Data(name="fashion-mnist", held_out=5))
    assert (len(real.train), len(real.held_out), len(real.test), real.shape) == (25, 5, 20, (1, 28, 28)) and real.classes[9] == "Ankle boot"


def npz(path, n=50, **changes):
    arrays = {"images": np.random.default_rng(0).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8), "labels": np.arange(n) % 5} | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return Data(name=str(path), held_out=0)


def test_own_files(tmp_path):
    mine = npz(tmp_path / "a.npz")
    real = data.load(mine)
    assert (len(real.train), len(real.test), real.shape, real.classes) == (40, 10, (3, 8, 8), ("0", "1", "2", "3", "4"))
    assert real.test.labels.bincount().tolist() == [2] * 5  # a fifth of each class
    whole = np.load(tmp_path / "a.npz")["images"].astype("float32") / 255
    found = {tuple(x.round(4)) for x in real.pixels(real.train.images).flatten(1).numpy()}
    assert found <= {tuple(x.round(4)) for x in whole.reshape(50, -1)}
    more = dict(test_images=np.zeros((5, 3, 8, 8), dtype=np.float32), test_labels=np.arange(5), classes=np.array(list("abcde")))
    two = npz(tmp_path / "b.npz", **more)
    assert len(data.load(two).train) == 50 and data.load(two).classes == tuple("abcde") and fingerprint(two) != fingerprint(mine)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(images=None), "holds labels, but no `images`; an .npz needs `images`"),
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
        (dict(labels=np.where(np.arange(50) == 7, 10**12, 0)), "a label is 1000000000000 with 50 images"),  # before anything is counted
        (dict(classes=np.array(["a", "b"])), "a label is 4; labels run from 0 to 1"),
        (dict(test_images=np.zeros((5, 3, 8, 8), dtype=np.uint8), test_labels=np.arange(5) + 1), "a label is 5; labels run from 0 to 4"),
        (dict(test_images=np.zeros((5, 3, 4, 4), dtype=np.uint8), test_labels=np.arange(5)), r"test images have shape \(3, 4, 4\)"),
        (dict(test_images=np.zeros((5, 3, 8, 8)), test_labels=np.zeros(5)), "`test_labels` is of type float64"),
    ],
)
def test_own_files_that_will_not_do(tmp_path, changes, said):
    with pytest.raises(DataError, match=said):
        data.load(npz(tmp_path / "a.npz", **changes))


@pytest.mark.parametrize(("pixels", "numbers"), [("float64", "int32"), (">f4", ">i8"), ("float16", "uint8"), ("uint8", "uint16")])
def test_own_files_come_in_the_types_nets_take(tmp_path, pixels, numbers):
    one = np.full((50, 1, 8, 8), 1).astype(pixels)
    real = data.load(npz(tmp_path / "a.npz", images=one, labels=(np.arange(50) % 5).astype(numbers)))
    assert real.train.images.dtype == torch.float32 and real.train.labels.dtype == torch.int64
    assert torch.allclose(real.mean, torch.tensor([1 / 255 if pixels == "uint8" else 1.0]))


def test_other_bytes_under_the_same_name_are_other_data(tmp_path):
    mine = npz(tmp_path / "a.npz")
    before, images = fingerprint(mine), data.load(mine).train.images
    assert fingerprint(mine) == before and data.load(mine).train.images is images
    npz(tmp_path / "a.npz", labels=np.arange(50)[::-1] % 5, n=50, images=np.zeros((50, 3, 6, 6), dtype=np.uint8))
    assert fingerprint(mine) != before and data.load(mine).shape == (3, 6, 6)


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        data.check_files(Data(name=str(tmp_path / "x.npz")))
    whole = npz(tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:300])
    with pytest.raises(DataError, match="cannot be read as plain arrays"):
        data.check_files(whole)


def test_dataset_objects():
    from PIL import Image

    pictures = [(Image.new("RGB", (8, 8), (10 * i, 0, 0)), i % 2) for i in range(6)]
    real = data.from_datasets(pictures, pictures[:2])
    assert (
        len(real.train) == 6 and real.shape == (3, 8, 8) and float(real.pixels(real.train.images)[5, 0].mean()) == pytest.approx(50 / 255)
    )
    bytes_ = [(torch.full((1, 4, 4), 51 * i, dtype=torch.uint8), torch.tensor(i)) for i in (0, 1)]
    assert data.from_datasets(bytes_, bytes_, ("no", "yes")).mean == pytest.approx(0.1)
    with pytest.raises(DataError, match="training pixels run from 0 to 7; give them in"):
        data.from_datasets([(torch.full((1, 4, 4), 7.0 * i), i) for i in (0, 1)], bytes_)
    tensors = [(torch.rand(1, 4, 4), 0), (torch.rand(1, 4, 5), 1)]
    with pytest.raises(DataError, match=r"training image 1 has shape \(1, 4, 5\), the first \(1, 4, 4\); resize them alike"):
        data.from_datasets(tensors, tensors)
    with pytest.raises(DataError, match="there are no training images"):
        data.from_datasets([], tensors)
