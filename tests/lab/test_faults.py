"""Kill the study at several moments, resume it, and find the same products, bit for bit; and two studies at once in one
store."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

CODE = """
import json, sys
import lotto
from lotto.lab.causes.tables import settled
from lotto.lab.sets.tables import judgements
from lotto.lab.sharpness.tables import curvatures, discarded, scapes
from lotto.lab.sparsity.tables import switched
from lotto.lab.stability.tables import barriers, between
from lotto.lab.tickets.tables import accuracies
study = lotto.study("digits", **json.loads(sys.argv[1]))
what = barriers, accuracies, switched, judgements, discarded, curvatures, between, settled
print(*(table(study).to_json() for table in what), scapes(study), flush=True)
"""


@pytest.fixture(scope="module")
def start(tiny_parameters):
    """start(store, **environment): the study in a process group of its own, its tables on its standard output."""
    more = dict(seeds=1, methods=["dense", "imp", "distilled", "hybrid", "random"], steps=30, distill_steps=30)
    given = json.dumps({**tiny_parameters, **more})

    def go(store, **env):
        variables = {
            **os.environ,
            "LOTTO_STORE": str(store),
            "LOTTO_JOBS": "2",
            "LOTTO_DEVICE": "cpu",
            "LOTTO_CHECKPOINT_SECONDS": "0",
            **env,
        }
        command = [sys.executable, "-c", CODE, given]
        return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True)

    return go


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
def whole(tmp_path_factory, start):
    store = tmp_path_factory.mktemp("whole")
    process = start(store, LOTTO_CHECKPOINT_SECONDS="60")
    out = process.communicate(timeout=300)[0]
    assert process.returncode == 0
    return out, products(store)


def test_killed_at_random_moments_and_resumed_is_the_same(whole, start, tmp_path):
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
    assert process.communicate(timeout=300)[0] == whole[0]
    assert process.returncode == 0
    assert products(tmp_path) == whole[1]
    assert not list(tmp_path.glob("*/.*making*"))
    assert not list(tmp_path.glob("*/.*partial"))


def test_two_runs_at_once_into_one_store(whole, start, tmp_path):
    both = [start(tmp_path) for _ in range(2)]
    assert [p.communicate(timeout=300)[0] for p in both] == [whole[0]] * 2
    assert products(tmp_path) == whole[1]
