import subprocess
import sys

import pytest
import torch

from lotto.streams import STREAMS, generator


def numbers(*key):
    return torch.randint(2**31, (4,), generator=generator(*key)).tolist()


def test_a_stream_is_a_function_of_its_key():
    assert numbers(0, "order", 1, 2) == numbers(0, "order", 1, 2)


def test_every_part_of_the_key_matters_and_neighbours_do_not_collide():
    # open_lth's seed + epoch made replicate 0 epoch 1 equal to replicate 1 epoch 0
    keys = [(s, stream, c, e) for s in (0, 1) for stream in STREAMS for c in (0, 1, 11) for e in (0, 1, 11)] + [
        (0, "order", 1),
        (0, "order", 11),
    ]
    assert len({tuple(numbers(*k)) for k in keys}) == len(keys)


@pytest.mark.slow
def test_the_same_in_another_process():
    code = (
        "import torch; from lotto.streams import generator; print(torch.randint(2**31, (4,), "
        "generator=generator(7, 'init', 3)).tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "5", "PATH": ""},
    ).stdout
    assert out.strip() == str(numbers(7, "init", 3))


def test_pinned_so_that_a_change_is_a_decision():
    assert generator(0, "init").initial_seed() == int.from_bytes(
        __import__("hashlib").sha256(b"0:init").digest()[:7], "big"
    )


def test_unknown_stream_is_refused():
    with pytest.raises(ValueError, match="'ordr'"):
        generator(0, "ordr")
