"""Published sets: what can be read is read rightly, what cannot is refused in one sentence, and nothing in a file is
executed."""

import dataclasses
import os

import numpy as np
import pytest
import torch
from PIL import Image

from lotto.data import DataError
from lotto.distill import export, files, whitening
from lotto.distill.synset import SynSet, check_classes


def test_whitening_has_the_covariance_it_should_and_comes_back(real):
    pixels = real.pixels(real.train.images)
    by = whitening.whitening(pixels)
    white = whitening.whiten(pixels, by)
    x = (pixels.flatten(1) - pixels.flatten(1).mean(0)).double()
    values = torch.linalg.eigvalsh(x.T @ x / (len(x) - 1)).clamp_min(0)
    y = white.flatten(1).double()
    assert torch.allclose(
        torch.linalg.eigvalsh(y.T @ y / (len(y) - 1)).clamp_min(0), (values / (values + 0.1)).sort().values, atol=1e-4
    )
    assert torch.allclose(whitening.unwhiten(white, by), pixels, atol=1e-5)


def test_every_format_comes_back(real, small, tmp_path):
    written = {
        "mtt": export.export(small, tmp_path / "mtt", "mtt")[0],
        "dc": export.export(small, tmp_path / "res_DC.pt", "dc")[0],
        "idc": export.export(small, tmp_path / "data_best.pt", "idc")[0],
        "npz": export.export(small, tmp_path / "set.npz", "npz")[0],
    }
    export.export(small, tmp_path / "png", "png")
    took = {}
    for name, file in {**written, "png": tmp_path / "png"}.items():
        back = SynSet.load(file, real=real)
        took[name] = back.recipe["read as"]
        order = back.labels.argsort(stable=True)
        assert torch.allclose(back.images[order], small.images, atol=1 / 255 if name == "png" else 1e-4), name
        assert back.labels[order].tolist() == small.labels.tolist() and torch.allclose(back.mean, real.mean)
    assert took["mtt"] == "MTT, plain pixels" and took["idc"] == "IDC, factor 1, plain pixels"
    assert took["dc"] == "DatasetCondensation, experiment 1 of 1, normalised by the real data's own mean and deviation"
    assert SynSet.load(tmp_path / "png").classes == ("000_cat", "001_dog", "002_owl", "003_yak")


def test_what_the_codes_really_write(real, small, tmp_path):
    """DatasetCondensation keeps several experiments and NumPy's accuracies; DATM soft labels as logits; IDC its factor
    elsewhere."""
    pair = [real.normalise(small.images), small.labels]
    torch.save(
        {"data": [pair, pair], "accs_all_exps": {"ConvNet": [np.float64(0.5), np.float32(0.25), np.int64(3)]}},
        tmp_path / "res_DM.pt",
    )
    assert "experiment 2 of 2" in SynSet.load(tmp_path / "res_DM.pt", real=real).recipe["read as"]
    logits = torch.randn(len(small.images), 4) * 3
    torch.save(small.images, tmp_path / "images_best.pt")
    torch.save(logits, tmp_path / "labels_best.pt")
    soft = SynSet.load(tmp_path / "images_best.pt")
    assert torch.allclose(soft.labels, logits.softmax(1))
    assert "were made probabilities" in soft.recipe["read as"]
    torch.save([small.images, small.labels], tmp_path / "data_best.pt")
    assert len(SynSet.load(tmp_path / "data_best.pt", factor=2).split()) == 4 * len(small.images)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"data": Bomb()}, tmp_path / "res_evil.pt")
    with pytest.raises(DataError, match="cannot be opened without running its code"):
        SynSet.load(tmp_path / "res_evil.pt")
    assert not (tmp_path / "executed").exists()


def write(tmp_path, name, what):
    torch.save(what, tmp_path / name)
    return tmp_path / name


def test_files_that_do_not_fit(real, small, tmp_path):
    def said(match, name, what=None, **more):
        file = write(tmp_path, name, what) if what is not None else tmp_path / name
        with pytest.raises(DataError, match=match):
            files.load(file, **more)

    said("no such file; known are a SynSet", "absent.pt")
    said("holds a dict with 'x', which is none of the formats", "x.pt", {"x": 1})
    said("8 images but 7 labels", "data_short.pt", [small.images, small.labels[:-1]])
    said(
        r"images have shape \(3, 4, 4\), the real ones \(3, 8, 8\)",
        "data_size.pt",
        [small.images[:, :, :4, :4], small.labels],
        real=real,
    )
    said("labels name 6 classes, but there are 4", "data_more.pt", [small.images, small.labels + 2], real=real)
    said("by what; give real=.* 4 classes of shape ", "res_grey.pt", {"data": [[small.images[:, :1], small.labels]]})
    said("holds one tensor; MTT's images are in images_", "alone.pt", small.images)
    said("labels_lonely.pt: no such file; MTT's", "images_lonely.pt", small.images)
    torch.save(small.labels, tmp_path / "labels_white.pt")
    said("ZCA-whitened or normalised, as they are not in .* give real=", "images_white.pt", small.images * 4 - 2)
    said(r"ZCA-whitened; give real=", "images_white.pt", space="whitened")
    said("read as plain pixels, 7. % of its values would have to be cut", "images_white.pt", space="pixels")
    said("space = 'white': not known; use pixels, normalised, whitened", "images_white.pt", space="white")
    (tmp_path / "text.pt").write_text("not a file of PyTorch's")
    said("is no PyTorch file, or is cut short|cannot be opened", "text.pt")
    whole = write(tmp_path, "data_cut.pt", [small.images, small.labels])
    whole.write_bytes(whole.read_bytes()[:-300])
    said("is cut short", "data_cut.pt")
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    said("holds no PNG; each class needs one", "pictures")
    (tmp_path / "set.txt").write_text("")
    said("not a format that is known", "set.txt")


def test_pictures_with_a_palette_are_read_in_their_colours(tmp_path):
    for c, colour in enumerate(((255, 0, 0), (0, 0, 255))):
        (tmp_path / str(c)).mkdir()
        Image.new("RGB", (8, 8), colour).quantize(4).save(tmp_path / str(c) / "0.png")
    assert SynSet.load(tmp_path).images[:, :, 0, 0].tolist() == [[1, 0, 0], [0, 0, 1]]


def test_exports_that_cannot_say_what_the_set_holds(small, tmp_path):
    soft = SynSet(small.images, torch.eye(4)[small.labels], small.classes, small.mean, small.std)
    with pytest.raises(DataError, match="keeps class numbers, and this set has soft labels"):
        export.export(soft, tmp_path / "x.pt", "idc")
    with pytest.raises(DataError, match="form = 'zip': not known; use mtt, dc"):
        export.export(small, tmp_path / "x", "zip")
    by = whitening.whitening(small.images)
    white = dataclasses.replace(small, images=whitening.whiten(small.images, by), whitening=by)
    with pytest.raises(DataError, match="form = 'npz': keeps pixels, and this set is whitened; use 'mtt'"):
        export.export(white, tmp_path / "x.npz", "npz")


def other_order(real):
    return dataclasses.replace(real, classes=("zebra", "yak", "cat", "ant"))


@pytest.mark.parametrize("soft", [False, True])
def test_classes_are_matched_by_their_names(real, small, tmp_path, soft):
    """A folder's classes come in the order of their names, the real data's may not: labels follow the names."""
    real, names = other_order(real), ("ant", "cat", "yak", "zebra")
    arrays = {"images": small.images.numpy(), "labels": small.labels.numpy(), "classes": np.array(names)}
    np.savez(tmp_path / "set.npz", **arrays)
    back = SynSet.load(tmp_path / "set.npz", real=real)
    assert back.classes == real.classes and back.labels.tolist() == (3 - small.labels).tolist()
    assert "brought into the order of the real data's" in back.recipe["read as"]
    labels, classes, _ = files._as_named(torch.eye(4)[small.labels] if soft else small.labels, names, real)
    assert (labels.argmax(1) if soft else labels).tolist() == back.labels.tolist() and classes == real.classes
    for label, name in enumerate(names):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for i, image in enumerate(small.images[small.labels == label]):
            whole = (image.permute(1, 2, 0) * 255).round().byte().numpy()
            Image.fromarray(whole).save(tmp_path / "pics" / name / f"{i}.png")
    there = SynSet.load(tmp_path / "pics", real=real)
    assert there.labels.tolist() == [3 - c for c in range(4) for _ in range(len(small.labels) // 4)]
    with pytest.raises(DataError, match="the same in another order"):
        check_classes(dataclasses.replace(small, classes=names), real)


def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path):
    for c in (0, 2, 10):
        (tmp_path / str(c)).mkdir()
        Image.new("L", (8, 8), c).save(tmp_path / str(c) / "0.png")
    back = SynSet.load(tmp_path)
    assert back.classes == ("0", "2", "10") and back.labels.tolist() == [0, 1, 2]


def test_pictures_of_other_depths_are_read_rightly_or_refused(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("1", (8, 8), 1).save(tmp_path / "a" / "0.png")
    assert SynSet.load(tmp_path).images.shape == (1, 1, 8, 8)
    Image.fromarray(np.full((8, 8), 63000, dtype=np.uint16)).save(tmp_path / "a" / "0.png")
    with pytest.raises(DataError, match="save them with 8 bits a channel"):
        SynSet.load(tmp_path)


@pytest.mark.parametrize(("form", "name"), [("mtt", "mtt"), ("dc", "res_DC.pt"), ("npz", "set.npz"), ("png", "png")])
def test_images_that_hold_several_are_taken_apart_for_others(real, small, tmp_path, form, name):
    several = dataclasses.replace(small, factor=2)
    written = export.export(several, tmp_path / name, form)
    back = SynSet.load(tmp_path / name if form == "png" else written[0], real=real)
    assert back.factor == 1 and len(back.images) == len(several.split()) == 4 * len(small.images)


def test_a_synset_is_read_by_both_names(real, small, tmp_path):
    small.save(tmp_path / "set.safetensors")
    assert files.load(tmp_path / "set.safetensors", real).checksum == small.checksum
    for load in (files.load, SynSet.load):
        for name, value in (("space", "whitened"), ("factor", 2)):
            with pytest.raises(DataError, match=f"{name} = {value!r}: the file of a SynSet says itself"):
                load(tmp_path / "set.safetensors", real=real, **{name: value})
