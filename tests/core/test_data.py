import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotto import data
from lotto.data import DataError


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
    assert real.classes == ("0", "1", "2")
    assert torch.allclose(real.pixels(real.train.images), x, atol=1e-6)
    assert len(real.held_out) == 0
    assert real.train.images.mean().abs() < 1e-5


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (
            torch.rand(4, 1, 8, 8) * 255,
            Y,
            r"training pixels run from .*give them in \[0, 1\] .bytes: images.float.. / 255.",
        ),
        (torch.zeros(4, 1, 8, 8), torch.tensor([0, 2, 2, 0]), "class 1 has no training image"),
        (torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 7, 0]), "class 2 has no training image"),
    ],
)
def test_own_images_that_will_not_do(images, labels, said):
    with pytest.raises(DataError, match=said):
        data.own(images, labels, torch.zeros(1, 1, 8, 8), torch.tensor([0]))


FOUR = torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            dict(test_images=torch.zeros(4, 1, 8, 9)),
            r"test images have shape \(1, 8, 9\), training images \(1, 8, 8\); make them alike",
        ),
        (dict(test_images=torch.zeros(4, 3, 8, 8)), r"test images have shape \(3, 8, 8\), training"),
        (
            dict(labels=torch.eye(2)[FOUR[1]], classes=("a", "b")),
            r"training labels have shape \(4, 2\) and type torch.float32; class numbers are needed.*labels.argmax\(1\)",
        ),
        (dict(test_labels=torch.eye(2)[FOUR[1]]), "test labels have shape .* class numbers are needed"),
        (dict(labels=torch.zeros(4).long(), test_labels=torch.zeros(4).long()), "there is 1 class; give at least two"),
    ],
)
def test_own_images_and_test_images_that_do_not_go_together(changes, said):
    given = dict(zip(("images", "labels", "test_images", "test_labels"), FOUR * 2, strict=True))
    with pytest.raises(DataError, match=said):
        inspect.unwrap(data.own)(**given | changes)


def test_pictures_with_a_palette_are_read_in_their_colours():
    from PIL import Image

    plain = [(Image.new("RGB", (8, 8), colour), i) for i, colour in enumerate(((255, 0, 0), (0, 0, 255)))]
    few = [(image.quantize(4), label) for image, label in plain]
    assert few[0][0].mode == "P"
    a, b = (data.from_datasets(some, some) for some in (plain, few))
    assert torch.equal(a.train.images, b.train.images)
    grey = [(Image.new("L", (8, 8), 51 * i), i) for i in (0, 1)]
    assert data.from_datasets(grey, grey).shape == (1, 8, 8)


def test_damaged_arrays_are_told(tmp_path):
    images, labels = (t.numpy() for t in (torch.rand(4, 1, 8, 8), FOUR[1]))
    np.save(tmp_path / "a.npy", images)
    (tmp_path / "one.npz").write_bytes((tmp_path / "a.npy").read_bytes())
    np.savez_compressed(tmp_path / "bad.npz", images=images, labels=labels)
    content = bytearray((tmp_path / "bad.npz").read_bytes())
    content[100:140] = bytes(40)
    (tmp_path / "bad.npz").write_bytes(content)
    for name, said in (("one", "one array, as in an .npy"), ("bad", "")):
        with pytest.raises(DataError, match=rf"{name}.npz: cannot be read as plain arrays \(.*{said}.*needs `images`"):
            data.read_npz(tmp_path / f"{name}.npz")


def test_dataset_objects():
    from PIL import Image

    pictures = [(Image.new("RGB", (8, 8), (10 * i, 0, 0)), i % 2) for i in range(6)]
    real = data.from_datasets(pictures, pictures[:2])
    assert len(real.train) == 6
    assert real.shape == (3, 8, 8)
    assert float(real.pixels(real.train.images)[5, 0].mean()) == pytest.approx(50 / 255)
    bytes_ = [(torch.full((1, 4, 4), 51 * i, dtype=torch.uint8), torch.tensor(i)) for i in (0, 1)]
    assert data.from_datasets(bytes_, bytes_, ("no", "yes")).mean == pytest.approx(0.1)
    with pytest.raises(DataError, match="training pixels run from 0 to 7; give them in"):
        data.from_datasets([(torch.full((1, 4, 4), 7.0 * i), i) for i in (0, 1)], bytes_)
    tensors = [(torch.rand(1, 4, 4), 0), (torch.rand(1, 4, 5), 1)]
    with pytest.raises(
        DataError, match=r"training image 1 has shape \(1, 4, 5\), the first \(1, 4, 4\); resize them alike"
    ):
        data.from_datasets(tensors, tensors)
    with pytest.raises(DataError, match="there are no training images"):
        data.from_datasets([], tensors)
