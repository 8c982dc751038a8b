import json

import pytest
import torch
from safetensors.torch import save_file

from lotto import nets
from lotto.config import Net, Recipe
from lotto.data import DataError
from lotto.distill import coresets, synset
from lotto.distill.synset import SynSet
from lotto.train import train


def test_synset_round_trip_and_range(real, tmp_path):
    made = coresets.subset(real, 2, 0)
    made.save(tmp_path / "set.safetensors")
    back = SynSet.load(tmp_path / "set.safetensors")
    assert torch.equal(back.images, made.images)
    assert back.classes == made.classes
    assert back.recipe == made.recipe
    with pytest.raises(DataError, match=r"pixels run from -2 to .*undo it with images \* std \+ mean"):
        SynSet((made.images - 0.5) * 4, made.labels, made.classes, made.mean, made.std)
    with pytest.raises(DataError, match="label 0 is 0; labels run from 0 to -1|labels run from"):
        SynSet(made.images, made.labels + 5, made.classes, made.mean, made.std)


def test_files_that_are_no_synset(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        SynSet.load(tmp_path / "absent")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="is no SynSet file"):
        SynSet.load(tmp_path / "other.safetensors")
    whole = tmp_path / "cut.safetensors"
    save_file({"images": torch.zeros(2, 1, 4, 4)}, whole, metadata={"lotto": json.dumps({})})
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(DataError, match="cut short"):
        SynSet.load(whole)


def test_decoding_by_hand():
    image = torch.tensor([[[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [0.2, 0.2, 0.6, 0.6], [0.2, 0.2, 0.6, 0.6]]]])
    parts = synset.decode(image, 2)
    assert [float(p.mean()) for p in parts] == pytest.approx([0, 1, 0.2, 0.6])
    assert parts.shape == (4, 1, 4, 4)
    assert torch.allclose(synset.encode(parts, 2), image)


@pytest.mark.parametrize(("side", "factor"), [(8, 2), (8, 3), (28, 3), (5, 2), (4, 1)])
def test_a_constant_stays_what_it_is(side, factor):
    constant = torch.full((2, 3, side, side), 0.5)
    assert torch.allclose(synset.decode(constant, factor), torch.full((2 * factor**2, 3, side, side), 0.5))
    assert torch.allclose(synset.encode(synset.decode(constant, factor), factor), constant)


def test_decoded_images_keep_their_labels(small):
    two = SynSet(small.images, small.labels, small.classes, small.mean, small.std, factor=2)
    images, labels = two.decode()
    assert len(images) == 4 * len(small.images)
    assert labels.tolist() == small.labels.tolist() * 4  # part by part, all images each time
    assert len(two.split()) == len(images)
    with pytest.raises(DataError, match="factor = 9: images of shape .* can hold 1 to 8"):
        SynSet(small.images, small.labels, small.classes, small.mean, small.std, factor=9)


def test_a_set_round_trips_with_soft_labels_factor_and_checksum(small, tmp_path):
    soft = torch.eye(4)[small.labels] * 0.9 + 0.025
    made = SynSet(small.images, soft, small.classes, small.mean, small.std, {"a": 1}, factor=2)
    made.save(tmp_path / "s.safetensors")
    back = SynSet.load(tmp_path / "s.safetensors")
    assert torch.equal(back.labels, soft)
    assert back.factor == 2
    assert back.checksum == made.checksum
    assert back.recipe == {"a": 1}
    with pytest.raises(DataError, match="label 0 adds to 1.9"):
        SynSet(small.images, soft + 0.225, small.classes, small.mean, small.std)
    with pytest.raises(DataError, match="give 4 probabilities each; there are 3 classes"):
        SynSet(small.images, soft, small.classes[:3], small.mean, small.std)


def test_a_changed_file_is_found_out(small, tmp_path):
    file = tmp_path / "s.safetensors"
    small.save(file)
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(DataError, match="not those it was saved with"):
        SynSet.load(file)


def test_soft_labels_train_like_hard_ones_where_they_are_sure(real, small):
    model = nets.build(Net(name="convnet", width=4, depth=2), (3, 8, 8), 4, 0)
    split = small.split()
    hard, soft = (
        train(model, split.images, y, Recipe(steps=4, lr=0.1)).state for y in (split.labels, torch.eye(4)[split.labels])
    )
    assert all(torch.allclose(hard[n].double(), soft[n].double(), atol=1e-5) for n in hard)
