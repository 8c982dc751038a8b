"""Tickets as files, and the rows of their worth. No times are judged."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lotto import bench, compact, masks, run
from lotto.config import ConfigError
from lotto.lab import sources, worth
from lotto.lab.tickets.products import level, network, start_of, trained


def test_a_ticket_in_three_ways(tiny, tmp_path):
    study = tiny()
    files = {kind: tmp_path / f"{kind}.safetensors" for kind in ("dense", "mask", "compact")}
    said = {kind: worth.write(study, "distilled", 2, 0, 1, kind, file) for kind, file in files.items()}
    mask, state = level(study.ticket("distilled", 2, 0)).tensors, trained(study.training("distilled", 2, 0, 1)).tensors
    back = masks.load(files["mask"])
    assert back.keys() == mask.keys() and all(torch.equal(back[n], mask[n]) for n in mask)
    assert all(torch.equal(t, state[n]) for n, t in load_file(files["dense"]).items())
    net = network(study.setup(0))
    small = compact.load(net, files["compact"])
    net.load_state_dict(load_file(files["dense"]))
    images = sources.load(study.data).test.images[:50]
    with torch.no_grad():
        torch.testing.assert_close(small(images), net.eval()(images), rtol=1e-5, atol=1e-5)
    assert {s["density"] for s in said.values()} == {masks.density(mask)}
    assert all(s["bytes"] == files[kind].stat().st_size for kind, s in said.items())
    assert said["dense"]["parameters"] == said["compact"]["of the dense net's"][0]
    assert not list(tmp_path.glob("*.part"))


def test_the_ticket_before_any_training(tiny, tmp_path):
    study = tiny()
    worth.write(study, "imp", 1, 0, 0, "dense", tmp_path / "t.safetensors")
    start = start_of(study.ticket("imp", 1, 0)).state
    assert all(torch.equal(t, start[n]) for n, t in load_file(tmp_path / "t.safetensors").items())


@pytest.mark.parametrize(
    ("more", "given", "says"),
    [
        ({}, dict(method="imq"), "method 'imq' is not known"),
        ({}, dict(method="dense"), "has level 0 only"),
        ({}, dict(child=-1), "child = -1"),
        ({}, dict(file="nowhere/t"), "its folder does not exist"),
        ({}, dict(file="."), "is a folder, or in one that you may not write"),
        (dict(norm="group", width=12), dict(kind="compact"), "several channels together"),
        (dict(fraction=0.9), dict(method="random", at=4), "of initialisation 0 is dead: there is no net to take"),
    ],
)
def test_what_cannot_be_written_is_refused(tiny, tmp_path, more, given, says):
    file = tmp_path / given.pop("file", "t.safetensors")
    study = tiny(levels=[1, 2, 3, 4], methods=["random"], **more)
    with pytest.raises(ConfigError, match=says):
        worth.write(study, **{**dict(method="imp", at=1, seed=0, child=1, kind="dense", file=file), **given})
    assert not file.is_file() and not list(tmp_path.glob("*.part"))


def words(parameters):
    return [a for n, v in parameters.items() for a in ("-p", n, json.dumps(v) if isinstance(v, list) else str(v))]


def test_the_command(tmp_path, capsys, tiny_parameters):
    file = tmp_path / "t.safetensors"
    call = ["ticket", "distilled", "1", "0", "--out", str(file), "--as", "compact", *words(tiny_parameters)]
    assert run.main(call) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["file"] == str(file) and said["channels"]["head"] == "10 of 10"
    assert run.main([*call[:2], "1", "0", "--out", str(tmp_path / "no" / "t")]) == 2
    assert "make it first" in capsys.readouterr().err


def test_the_rows(capsys, tiny_parameters, monkeypatch):
    monkeypatch.setenv("LOTTO_DEVICE", "cpu")
    call = ["--worth", "--seconds", "0.01", "--repeats", "2", *words(tiny_parameters), "-p", "levels", "[1]"]
    assert bench.main(call) == 0
    said = capsys.readouterr().out
    for arm in ("imp", "distilled"):
        for what in ("parameters left", "time dense / masked, batch 1 ", "time masked / compact, batch 256"):
            assert f"{arm} 36.0 % sparse: {what}" in said
    assert worth.levels(0.2) == [10, 16, 21]
