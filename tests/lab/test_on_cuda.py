"""The CUDA path of the study: with stand-ins for the device where none is, and a product of each kind where one is."""

import pytest
import torch

from lotto.lab import device, parallel, timing
from lotto.lab.sharpness.products import curvature, dense_points
from lotto.lab.stability.products import pairs, segment


@pytest.fixture
def pretended(monkeypatch):
    """A machine that says it has a GPU; what waits for it is written down."""
    said = []
    monkeypatch.delenv("LOTTO_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: said.append("wait"))
    return said


def test_a_gpu_that_is_there_is_taken_by_one_process(pretended, monkeypatch):
    monkeypatch.setenv("LOTTO_JOBS", "7")
    assert device.device().type == "cuda" and device.device_name() == "a card"
    assert parallel.jobs() == 1
    monkeypatch.setenv("LOTTO_DEVICE", "cpu")
    assert device.device().type == "cpu" and parallel.jobs() == 7


def test_the_clock_is_read_when_the_device_is_done(pretended):
    def clock():
        pretended.append("clock")
        return 0.0

    timing.seconds_of(lambda: pretended.append("work"), clock)
    assert pretended == ["wait", "clock", "work", "wait", "clock"]


@pytest.mark.gpu
def test_a_path_and_a_hessian_on_the_gpu(tiny, monkeypatch, own_store):
    monkeypatch.setenv("LOTTO_DEVICE", "cuda")
    study = tiny(methods=["dense", "distilled"], levels=[1])
    path = segment(pairs(study, study.cells()[1])[0])
    assert len(path.metrics["recalibrated"]["test_error"]) == study.points and path.info["device"] != "cpu"
    found = curvature(dense_points(study, 0)["trained"])
    assert found.metrics["live"] > 0 and found.tensors["halves"].isfinite().all()
