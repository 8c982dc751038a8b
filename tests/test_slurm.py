"""The README's job script for SLURM, as it stands there, with pretended programs: it comes back when its time is up, and
only then."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from lotto import run

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
(SCRIPT,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", README, re.S)


def program(file, text):
    file.write_text(f"#!/bin/bash\n{text}\n")
    file.chmod(0o755)


@pytest.fixture
def cluster(tmp_path):
    """cluster(codes) -> what the first job exits with, and the calls of run_all.sh and sbatch: run_all.sh exits with the
    codes one after the other, and a job that is submitted runs at once."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "srun", 'exec "$@"')
    program(
        tmp_path / "bin" / "sbatch",
        'echo "sbatch $*" >> calls; case "$1" in --array=*) export SLURM_ARRAY_TASK_ID="${1#--array=}"; shift;; esac\n'
        'bash "$1"; echo "job ended with $?" >> calls',
    )
    program(
        tmp_path / "run_all.sh",
        'echo "run_all.sh $*" >> calls; n=$(grep -c ^run_all calls); exit "$(sed -n "${n}p" codes)"',
    )
    (tmp_path / "grid.sh").write_text(SCRIPT)

    def submit(*codes):
        (tmp_path / "codes").write_text("\n".join(map(str, codes)) + "\n")
        (tmp_path / "calls").unlink(missing_ok=True)
        given = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_CPUS_PER_TASK": "8",
        }
        out = subprocess.run(["bash", "grid.sh"], cwd=tmp_path, env=given, capture_output=True, text=True, timeout=60)
        assert out.stderr == ""
        return out.returncode, (tmp_path / "calls").read_text().splitlines()

    return submit


CALL = "run_all.sh --grid grid.yaml --shard 3/4 --jobs 8 --time-limit 13500"


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 1, 2, 3, 130])
def test_a_job_that_is_done_or_has_failed_does_not_come_back(cluster, code):
    assert cluster(code) == (code, [CALL])


@pytest.mark.slow
def test_a_job_whose_time_is_up_comes_back_with_its_own_shard_until_it_is_done(cluster):
    code, calls = cluster(75, 75, 1)
    again = "sbatch --array=3 grid.sh"
    assert code == 0 and calls == [CALL, again, CALL, again, CALL, "job ended with 1", "job ended with 0"]


def test_its_options_exist_its_shards_are_all_and_its_time_ends_before_slurms():
    assert set(re.findall(r"--[a-z-]+", CALL)) <= set(re.findall(r"--[a-z-]+", run.parser().format_help()))
    (count,) = re.findall(r"--array=1-(\d+)", SCRIPT)
    assert f"$SLURM_ARRAY_TASK_ID/{count}" in SCRIPT
    hours, minutes, seconds = map(int, re.findall(r"--time=(\d+):(\d+):(\d+)", SCRIPT)[0])
    assert 0 < int(re.findall(r"--time-limit (\d+)", SCRIPT)[0]) <= 3600 * hours + 60 * minutes + seconds - 600


def test_the_grid_of_the_readme_is_one():
    import yaml

    from lotto.lab import grid

    (text,) = re.findall(r"```yaml\n(notebooks.*?)```", README, re.S)
    assert len(grid.expand(yaml.safe_load(text), "readme").cells) == 8
