import pytest
import torch

from lotto.config import ConfigError
from lotto.lab import device


def test_one_thread_inside_and_the_callers_after():
    torch.set_num_threads(2)
    with device.single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_cuda_that_is_not_there(monkeypatch):
    monkeypatch.setenv("LOTTO_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        device.device()
