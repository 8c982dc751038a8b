"""bench: the rows are whole, what is written is what is printed, and the plain loop trains the same net. No times are
judged."""

import json
import math
from collections import Counter

import pytest
import torch

from lotto import bench, masks, scores, train
from lotto.config import Recipe
from lotto.lab import timing


@pytest.fixture(autouse=True)
def small_and_on_the_cpu(monkeypatch):
    monkeypatch.setenv("LOTTO_DEVICE", "cpu")  # the command sets it; this puts it back
    monkeypatch.setattr(bench, "IMAGES", 32)


def test_all_rows_are_there_and_the_json_is_the_table(tmp_path, capsys, tiny_parameters):
    given = [
        a for name, v in tiny_parameters.items() for a in ("-p", name, json.dumps(v) if isinstance(v, list) else str(v))
    ]
    file = tmp_path / "bench.json"
    assert bench.main([*given, "--device", "cpu", "--seconds", "0.02", "--repeats", "2", "--json", str(file)]) == 0
    said, found = capsys.readouterr().out, json.loads(file.read_text())
    rows = [bench.Row(**r) for r in found["rows"]]
    assert Counter(r.unit for r in rows) == {"images/s": 3, "x": 2, "s": 6, "MFLOP": 1, "GFLOP/s": 5, "% of it": 1}
    for r in rows:
        assert all(math.isfinite(v) and v > 0 for v in (r.low, r.median, r.high)), r
        assert r.low <= r.median <= r.high, r
    assert bench.table(rows) in said
    assert said.rstrip().endswith("bound of cpu in float32: not known")
    assert found["bound"] is None
    assert {k: found[k] for k in ("device", "torch", "preset", "threads", "repeats")} == {
        "device": "cpu",
        "torch": torch.__version__,
        "preset": "digits",
        "threads": 1,
        "repeats": 2,
    }
    assert found["parameters"] == tiny_parameters


def test_a_known_bound_gives_a_share_of_it(tiny, monkeypatch):
    monkeypatch.setattr(bench, "peak", lambda device, precision: 1e12)
    rows = bench.measure(tiny(), seconds=0.01, repeats=1)
    rates, shares = ([r for r in rows if r.unit == unit and "matrix" not in r.what] for unit in ("GFLOP/s", "%"))
    assert len(rates) == len(shares) == 4  # training, and three distillations
    for rate, share in zip(rates, shares, strict=True):
        assert share.median == pytest.approx(100 * rate.median * 1e9 / 1e12)


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("NVIDIA H200", "bfloat16", 989e12),
        ("NVIDIA H100 80GB HBM3", "tf32", 494.5e12),
        ("NVIDIA A100-SXM4-40GB", "float32", 19.5e12),
        ("NVIDIA H100 PCIe", "tf32", None),
        ("NVIDIA H200 MIG 1g.18gb", "tf32", None),
        ("cpu", "float32", None),
    ],
)
def test_bounds_are_those_of_whole_devices_that_are_known(name, precision, expected):
    assert timing.peak(name, precision) == expected


def test_the_plain_loop_trains_the_same_net_under_the_same_mask(net, images):
    model, (pixels, labels) = net().double(), images
    pixels = pixels.double()
    mask = masks.prune(masks.ones(model), scores.random(masks.ones(model), 0), 0.8)
    # all images in one batch, without augmentation: the two loops then differ in rounding only
    recipe = Recipe(steps=3, lr=0.05, batch=40, shift=0)
    start = {n: t.clone() for n, t in model.state_dict().items()}
    ours, theirs = (
        train.train(model, pixels, labels, recipe, mask).state,
        timing.plain(model, pixels, labels, recipe, mask),
    )
    assert ours.keys() == theirs.keys()
    for n, t in theirs.items():
        torch.testing.assert_close(ours[n], t)
    for n, kept in mask.items():
        assert (ours[n][~kept] == 0).all() and (theirs[n][~kept] == 0).all()
        assert not torch.equal(theirs[n][kept], start[n][kept])
    assert all(torch.equal(t, start[n]) for n, t in model.state_dict().items())


def test_flops_of_a_linear_net_are_counted_by_hand():
    # forward 2 * 6 * 4, gradient of the weights as much; the images need none
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 4))
    assert timing.flops(model, torch.randn(5, 1, 2, 3), torch.zeros(5, dtype=torch.int64), Recipe()) == 96


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--preset", "nowhere"], "nowhere"),
        (["-p", "widht", "4"], "width"),
        (["--seconds", "0"], "seconds"),
        (["--json", "/nowhere/at/all.json"], "/nowhere/at/all.json"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(argv, word, capsys):
    assert bench.main(argv) == 2
    said = capsys.readouterr()
    assert said.out == "" and word in said.err and said.err.count("\n") == 1


def test_a_training_that_diverges_is_not_timed(tiny, monkeypatch):
    monkeypatch.setattr(bench, "train", lambda *a, **k: train.Trained({}, [], finite=False))
    with pytest.raises(bench.ConfigError, match="diverged"):
        bench.measure(tiny(), seconds=0.01, repeats=1)


def test_the_flops_of_a_distillations_step_by_hand(tiny):
    """Distributions in a ConvNet of one block, width 4: forward on the real and the distilled images, backward to the
    pixels."""
    study = tiny(distill_depth=1, distill_width=4, distill_batch=3, ipc=2)
    real = bench.sources.load(study.data)
    method = bench.stand_in(real, study.distill)
    pixels = bench.loop.start(real, method.recipe, 0).requires_grad_()
    method.match(0, pixels)  # the first net of its kind is tried on two images
    conv = 2 * 9 * 1 * 4 * 64  # of one image: 3 x 3 kernels, one channel in, four out, 8 x 8 places
    means = 2 * 10 * 4 * 16  # a row of the one-hot product, 10 classes by 4 x 4 x 4 features
    assert timing.step_flops(method, pixels) == conv * (10 * 3 + 10 * 2 * 2) + means * (10 * 3 + 10 * 2 * 2)
