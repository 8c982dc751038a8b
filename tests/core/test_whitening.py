"""Published sets teach as published: whitened ones stay whitened and real images follow them; what a file holds is
told, or refused."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from lotto import data, run
from lotto.config import Net, Recipe
from lotto.data import DataError, Split
from lotto.distill import export, files, judge
from lotto.distill.coresets import subset
from lotto.distill.synset import SynSet
from lotto.distill.whitening import principal, unwhiten, whiten, whitening, zca
from lotto.lab import sources
from lotto.lab.describe import Data
from lotto.lab.sets import cards, products, tables

NETS = {"convnet": Net(name="convnet", width=8, depth=2, norm="instance")}
RECIPES = {"plain": Recipe(steps=60, lr=0.1, batch=64)}
NOISE = torch.rand(400, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def random_images(n: int, side: int = 16, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Images in [0, 1] whose variance falls with frequency, as that of natural ones does."""
    draw = torch.Generator().manual_seed(seed)
    layers = [torch.randn(n, channels, s, s, generator=draw) for s in (1, 2, 4, 8, side)]
    grown = [torch.nn.functional.interpolate(x, size=(side, side), mode="bilinear") for x in layers]
    return (0.5 + 0.12 * sum(x / 2**k for k, x in enumerate(grown))).clamp(0, 1)


def data_of(images: torch.Tensor, classes: int = 10) -> data.RealData:
    labels = torch.arange(len(images)) % classes
    return data.own(images, labels, images[:classes], labels[:classes], classes=tuple(map(str, range(classes))))


@pytest.fixture(scope="module")
def digits():
    return sources.load(Data())


@pytest.fixture(scope="module")
def white(digits):
    """100 whitened real digits of three times their contrast: brought back to pixels, a good part of them leaves [0,
    1]."""
    by = whitening(digits.pixels(digits.train.images).clamp(0, 1))
    plain = subset(digits, 10)
    images = 3 * whiten(plain.images, by)
    return dataclasses.replace(plain, images=images, mean=torch.zeros(1), std=torch.ones(1), whitening=by)


def test_the_accuracy_of_a_whitened_set_is_unchanged_by_export_and_import(digits, white, tmp_path):
    before = pd.DataFrame(judge.evaluate(white, digits, NETS, RECIPES, repeats=2))
    file = export.export(white, tmp_path, "mtt")[0]
    back = SynSet.load(file, real=digits)
    assert (
        back.images.equal(white.images)
        and back.whitening.matrix.equal(white.whitening.matrix)
        and back.checksum == white.checksum
    )
    assert (
        back.recipe["read as"]
        == "MTT, ZCA-whitened, as its values tell, and kept so, with the whitening of the 1,200 real training images"
    )
    after = pd.DataFrame(judge.evaluate(back, digits, NETS, RECIPES, repeats=2))
    assert after.equals(before) and after.accuracy.min() > 75
    # nets trained on it make little of real images that are not whitened
    assert (
        pd.DataFrame(judge.evaluate(white.split(), digits, NETS, RECIPES, repeats=2)).accuracy.mean()
        < after.accuracy.mean() - 20
    )


def test_the_whitening_is_saved_with_the_set(white, tmp_path):
    white.save(tmp_path / "w.safetensors")
    back = SynSet.load(tmp_path / "w.safetensors")
    assert (
        back.checksum == white.checksum != dataclasses.replace(white, whitening=zca(principal(white.pixels))).checksum
    )
    assert all(a.equal(b) for a, b in zip(back.whitening, white.whitening, strict=True)) and back.split().images.equal(
        white.images
    )
    assert 0 <= float(back.pixels.min()) and float(back.pixels.max()) <= 1
    with pytest.raises(DataError, match=r"whitening of shape \(3, 3\): images of 64 values need \(64, 64\)"):
        dataclasses.replace(white, whitening=whitening(torch.rand(9, 3, 1, 1)))


def test_the_checksum_of_a_plain_set_is_what_it_was():
    pixels = torch.arange(96.0).view(2, 3, 4, 4) / 96
    parts = torch.tensor([0.5, 0.25, 0.125]), torch.tensor([0.25, 0.5, 1.0])
    plain = SynSet(pixels, torch.tensor([0, 1]), ("a", "b"), *parts, {"method": "m"}, 2)
    assert plain.checksum == "04d633ebee13ccc17fbd52cc6ae1fdb439b6b6b8d78bfdd30d895fadf0d0ff0d"


def test_real_images_are_seen_as_the_set_is(digits, white):
    seen = white.view(digits)
    by, pixels = white.whitening, digits.pixels(digits.train.images)
    assert torch.allclose(seen.train.images, (pixels.flatten(1) - by.mean).mm(by.matrix).view(pixels.shape), atol=1e-5)
    assert len(seen.held_out) == len(digits.held_out) and torch.allclose(
        unwhiten(seen.test.images, by), digits.pixels(digits.test.images), atol=1e-4
    )
    plain = subset(digits, 1)
    assert plain.view(digits) is digits
    other = dataclasses.replace(plain, mean=torch.tensor([0.5]), std=torch.tensor([0.5]))
    assert torch.allclose(other.view(digits).test.images, (digits.pixels(digits.test.images) - 0.5) / 0.5, atol=1e-6)


def test_as_an_arm_the_inner_loop_sees_it_whitened_and_the_judge_whitened_real_images(white, tiny, tmp_path):
    study = tiny(
        own_set=str(export.export(white, tmp_path, "mtt")[0]), methods=("own",), train_size=None, judge_steps=60
    )
    inner = products.inner_images(study.data, study.images("own", 0))
    assert inner.images.cpu().equal(white.images)
    product = products.judged(tables.judging(study, "own", 2, 0, 0)).metrics
    described = {"convnet": tables.described(study, "convnet")}
    table = pd.DataFrame(
        judge.evaluate(white, sources.load(study.data), described, {"plain": tables.recipes(study)["plain"]}, repeats=1)
    )
    assert table.accuracy.tolist() == pytest.approx([100 * (1 - product["test"]["error"])])


def test_the_card_says_so_and_compares_in_the_same_space(digits, white, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LOTTO_DEVICE", "cpu")
    study = tiny(train_size=None, judge_steps=60, judge_recipes=("plain",))
    found = cards.card_of(white, study)
    assert found["set"]["pixels"] == "ZCA-whitened, and so are the real images beside them"
    worth = {r["set"]: r["mean"] for r in found["worth"]["accuracy"]}
    described, recipe = {"convnet": tables.described(study, "convnet")}, {"plain": tables.recipes(study)["plain"]}
    equal = subset(digits, 10)
    equal = Split(whiten(equal.images, white.whitening), equal.labels)
    assert worth["subset"] == pytest.approx(
        pd.DataFrame(judge.evaluate(equal, white.view(digits), described, recipe, study.judge.nets)).accuracy.mean(),
        abs=1e-3,
    )
    file = export.export(white, tmp_path, "mtt")[0]
    asked = [p for n, v in (("judge_steps", "3"), ("judge_nets", "1")) for p in ("-p", n, v)]
    for more in (["--whitened"], ["--space", "whitened"], []):
        assert run.main(["card", str(file), *more, *asked]) == 0
        about = json.loads(capsys.readouterr().out)["set"]
        assert about["checksums"] == [white.checksum] and about["recipe"]["read as"].startswith("MTT, ZCA-whitened")
    assert (
        run.main(["card", str(file), "--space", "pixels", *asked]) == 2
        and "would have to be cut" in capsys.readouterr().err
    )
    (tmp_path / "none.pt").touch()
    assert (
        run.main(["card", str(tmp_path / "none.pt"), *asked]) == 2 and "is empty (0 bytes)" in capsys.readouterr().err
    )


@pytest.mark.parametrize("ipc", [1, 10])
@pytest.mark.parametrize(
    ("kind", "contrast"), [("digits", 1), ("digits", 2), ("natural", 1), ("natural", 2), ("noise", 1)]
)
def test_normalised_and_whitened_images_are_told_apart(kind, ipc, contrast, digits, tmp_path):
    real = {"digits": lambda: digits, "natural": lambda: data_of(random_images(1000)), "noise": lambda: data_of(NOISE)}[
        kind
    ]()
    small = subset(real, ipc)
    by = whitening(real.pixels(real.train.images).clamp(0, 1))
    both = {"whitened": contrast * whiten(small.images, by), "normalised": real.normalise(small.images)}
    for space, images in both.items():
        torch.save(images, tmp_path / "images_best.pt")
        torch.save(small.labels, tmp_path / "labels_best.pt")
        back = SynSet.load(tmp_path / "images_best.pt", real=real)
        assert f"{'ZCA-' if space == 'whitened' else ''}{space}, as its values tell" in back.recipe["read as"], (
            space,
            back.recipe,
        )
        assert (back.whitening is not None) == (space == "whitened")
        wanted = images if space == "whitened" else small.images
        assert torch.allclose(back.images, wanted, atol=1e-4)


def test_what_cannot_be_told_is_asked_for(tmp_path):
    real = data_of(NOISE)
    small, of = subset(real, 10), principal(real.pixels(real.train.images))
    scale = (of.variances + 0.1) ** -0.25 / float(
        real.std.mean()
    ) ** 0.5  # half-way, along each axis, from normalised to whitened
    half = ((small.images.flatten(1) - of.mean) @ of.axes * scale @ of.axes.T).float().view(small.images.shape)
    torch.save(small.labels, tmp_path / "labels_best.pt")
    torch.save(half, tmp_path / "images_best.pt")
    with pytest.raises(
        DataError,
        match="cannot tell whether its images are normalised or whitened; say space='normalised' or 'whitened'",
    ):
        SynSet.load(tmp_path / "images_best.pt", real=real)
    assert SynSet.load(tmp_path / "images_best.pt", real=real, space="whitened").images.equal(half)


def saved(folder, name, what):
    torch.save(what, folder / name)
    return folder / name


def test_constants_are_those_of_the_classes_or_of_the_data(tmp_path):
    pixels, labels = random_images(100, side=32), torch.arange(100)
    hundred, ten = (
        [
            (pixels - torch.tensor(m)[:, None, None]) / torch.tensor(s)[:, None, None]
            for m, s in [files.CONSTANTS[n][2:]]
        ][0]
        for n in ("CIFAR-100", "CIFAR-10")
    )
    back = SynSet.load(saved(tmp_path, "res_100.pt", {"data": [[hundred, labels]]}))
    assert torch.allclose(back.images, pixels, atol=1e-5) and back.recipe["read as"].endswith(
        "the constants that its code has for CIFAR-100"
    )
    back = SynSet.load(saved(tmp_path, "res_10.pt", {"data": [[ten, labels % 10]]}))
    assert torch.allclose(back.images, pixels, atol=1e-5) and back.recipe["read as"].endswith("for CIFAR-10")
    saved(tmp_path, "labels_best.pt", labels)  # MTT takes CIFAR-10's constants for CIFAR-100
    back = SynSet.load(saved(tmp_path, "images_best.pt", ten), space="normalised")
    assert torch.allclose(back.images, pixels, atol=1e-5) and back.recipe["read as"].startswith("MTT, normalised by")
    real = data_of(random_images(200, side=32), 10)  # with a mean that no published set has
    back = SynSet.load(saved(tmp_path, "res_own.pt", {"data": [[real.train.images[:20], labels[:20] % 10]]}), real=real)
    assert "the real data's own mean" in back.recipe["read as"] and torch.allclose(
        back.images, real.pixels(real.train.images[:20]), atol=1e-5
    )


def test_what_would_be_cut_is_refused(digits, white, tmp_path):
    labels = torch.arange(10)
    grey = torch.full((10, 1, 8, 8), 0.5)
    few = grey.clone()
    few[:, 0, 0, :3] = 1.5  # 3 of 64 values
    back = SynSet.load(saved(tmp_path, "data_few.pt", [few, labels]))
    assert (
        back.recipe["read as"] == "IDC, factor 1, plain pixels, 4.7 % of its values cut to [0, 1]"
        and float(back.images.max()) == 1
    )
    few[:, 0, 0, 3] = -0.5
    with pytest.raises(
        DataError,
        match=r"read as plain pixels, 6 % of its values .* from -0.5 to 1.5, .* say space='normalised' or space='whitened' if",
    ):
        SynSet.load(saved(tmp_path, "data_many.pt", [few, labels]))
    with pytest.raises(
        DataError, match="read as normalised by the real data's own mean and deviation, .. % of its values would"
    ):
        SynSet.load(export.export(white, tmp_path / "w", "mtt")[0], real=digits, space="normalised")
    bytes_ = saved(tmp_path, "data_bytes.pt", [(grey * 255).round().byte(), labels])
    assert torch.allclose(SynSet.load(bytes_).images, grey, atol=1 / 255)


def test_soft_labels_stay_soft_in_every_format(digits, tmp_path):
    small = subset(digits, 1)
    soft = torch.eye(10)[small.labels] * 0.9 + 0.01
    normalised = digits.normalise(small.images)
    for name, what in (("data_soft.pt", [small.images, soft]), ("res_soft.pt", {"data": [[normalised, soft]]})):
        assert SynSet.load(saved(tmp_path, name, what), real=digits).labels.equal(soft)
    whole = saved(tmp_path, "data_whole.pt", [small.images, small.labels.double()])  # class numbers in a float tensor
    assert SynSet.load(whole).labels.equal(small.labels)
    with pytest.raises(DataError, match="labels have shape .* and type torch.float32; .* of int64 is needed"):
        SynSet.load(saved(tmp_path, "data_part.pt", [small.images, small.labels + 0.5]))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def test_files_that_hold_something_else_are_one_sentence(tmp_path):
    images, labels = torch.rand(10, 3, 8, 8), torch.arange(10)
    cases = {
        "data_swapped.pt": (
            [labels, images],
            r"its images have shape \(10,\) and its labels \(10, 3, 8, 8\): they are swapped",
        ),
        "res_swapped.pt": ({"data": [[labels, images]]}, "they are swapped"),
        "res_empty.pt": ({"data": []}, "`data` is a list of 0; DatasetCondensation keeps a list there"),
        "res_tensor.pt": ({"data": images}, r"`data` is a tensor of shape \(10, 3, 8, 8\); DatasetCondensation keeps"),
        "res_pair.pt": (
            {"data": [images, labels]},
            r"images and their labels are two tensors, and here is a tensor of shape \(10,\)",
        ),
        "res_three.pt": (
            {"data": [[images, labels, labels]]},
            r"two tensors, and here is a list of 3: a tensor of shape \(10, 3, 8, 8\), ",
        ),
        "data_number.pt": ([images, labels[0]], r"a tensor of shape \(10, 3, 8, 8\), a tensor of shape \(\)"),
        "data_flat.pt": ([images.flatten(1), labels], r"images have shape \(10, 192\)"),
        "data_nan.pt": ([images / 0 * 0, labels], "image 0 holds NaN"),
    }
    for name, (what, said) in cases.items():
        with pytest.raises(DataError, match=said):
            SynSet.load(saved(tmp_path, name, what))
    saved(tmp_path, "images_a.pt", labels)
    saved(tmp_path, "labels_a.pt", images)
    with pytest.raises(DataError, match="they are swapped"):
        SynSet.load(tmp_path / "images_a.pt")
    (tmp_path / "folder" / "cat").mkdir(parents=True)
    for name in ("x.pt", "x.npz", "x.safetensors", "folder/cat/0.png"):
        for content, said in (
            (b"", r"is empty \(0 bytes\); get it again"),
            (POINTER, "is a git-lfs pointer .*run `git lfs pull`"),
        ):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(DataError, match=said):
                SynSet.load(tmp_path / ("folder" if "png" in name else name))
    (tmp_path / "folder/cat/0.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="is no picture, or is cut short"):
        SynSet.load(tmp_path / "folder")


def test_channels_that_come_last_are_brought_to_the_front(tmp_path):
    images = random_images(4)
    np.savez(tmp_path / "last.npz", images=images.permute(0, 2, 3, 1).numpy(), labels=np.arange(4))
    back = SynSet.load(tmp_path / "last.npz")
    assert back.images.equal(images) and back.recipe["read as"] == (
        "arrays, plain pixels; its channels, which were last, were brought to the front"
    )
