"""Kill the study at several moments, resume it, and find the same products, bit for bit; and two studies at once in one store."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

CODE = """
import lotto
from lotto.distill import judge
from tests.conftest import TINY
more = dict(seeds=1, methods=["dense", "imp", "distilled", "hybrid", "random"], steps=30, distill_steps=30)
study = lotto.study("digits", **{**TINY, **more})
what = lotto.stability.barriers, lotto.stability.accuracies, lotto.stability.switched, judge.judgements
what += lotto.sharpness.discarded, lotto.sharpness.curvatures, lotto.stability.between, lotto.anatomy.settled
print(*(table(study).to_json() for table in what), lotto.landscape.scapes(study), flush=True)
"""


def start(store, **env):
    variables = {**os.environ, "LOTTO_STORE": str(store), "LOTTO_JOBS": "2", "LOTTO_DEVICE": "cpu", "LOTTO_CHECKPOINT_SECONDS": "0", **env}
    return subprocess.Popen([sys.executable, "-c", CODE], env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True)


def products(store):
    """Every product's metrics and tensors, by stage and key."""
    found = {}
    for done in sorted(store.glob("*/*/done.json")):
        folder = done.parent
        tensors = load_file(folder / "tensors.safetensors") if (folder / "tensors.safetensors").exists() else {}
        found[f"{folder.parent.name}/{folder.name}"] = (
            json.loads((folder / "metrics.json").read_text()),
            {n: t.numpy().tobytes() for n, t in tensors.items()},
        )
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = tmp_path_factory.mktemp("whole")
    process = start(store, LOTTO_CHECKPOINT_SECONDS="60")
    out = process.communicate(timeout=300)[0]
    assert process.returncode == 0
    return out, products(store)


def test_killed_at_random_moments_and_resumed_is_the_same(whole, tmp_path):
    draw, killed = random.Random(0), 0
    for _ in range(4):
        process = start(tmp_path)
        time.sleep(draw.uniform(5, 9))  # past the imports, somewhere in the work
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        if process.returncode == 0:
            break
    assert killed >= 1
    process = start(tmp_path)
    assert process.communicate(timeout=300)[0] == whole[0] and process.returncode == 0
    assert products(tmp_path) == whole[1]
    assert not list(tmp_path.glob("*/.*making*")) and not list(tmp_path.glob("*/.*partial"))


def test_two_runs_at_once_into_one_store(whole, tmp_path):
    both = [start(tmp_path) for _ in range(2)]
    assert [p.communicate(timeout=300)[0] for p in both] == [whole[0]] * 2
    assert products(tmp_path) == whole[1]
