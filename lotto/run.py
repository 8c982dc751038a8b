"""The commands behind run_all.sh: run the notebooks, refresh them, make reference tables, test.

    python -m lotto.run [options]              run the notebooks
    python -m lotto.run refresh                execute the committed notebooks in place, at their own parameters
    python -m lotto.run compute [...]          compute a study's tickets and their paths into the store, no notebook
    python -m lotto.run reference NAME [...]   compute a study and keep its tables in notebooks/reference
    python -m lotto.run claims                 write the README's table of claims from the reference tables
    python -m lotto.run card [FILE] [...]      what the study's distilled sets, or the set in a file, are worth, as JSON
    python -m lotto.run export RUN.zip [...]   pack a finished run with what it computed, for somebody else
    python -m lotto.run import RUN.zip [...]   unpack such a run and its products, to read it and go on from it
    python -m lotto.run ticket METHOD LEVEL SEED --out FILE [...]     write a ticket: dense, its mask, or compacted
    python -m lotto.run gpu-plan [...]         what a reference run still lacks, in minutes and slices of GPU time
    python -m lotto.run test [pytest options]  pytest, then nbval over the notebooks

Exit codes: 0 all went well, 1 a notebook or a test failed, 2 the call or a value in it is wrong, 75 paused (the time
limit is reached), 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lotto.checkpoint import Paused
from lotto.config import ConfigError
from lotto.lab import parallel
from lotto.lab.commands import COMMANDS
from lotto.lab.notebooks import INTERRUPTED, OK, PAUSED, USAGE, choose, up_to_date
from lotto.lab.options import limit, parameters, scheduler_option, study_options, use_scheduler, value


def parser() -> argparse.ArgumentParser:
    """The options of a run."""
    p = argparse.ArgumentParser(
        prog="run_all.sh",
        description="Run the study's notebooks by papermill.",
        allow_abbrev=False,
        epilog=(
            "run_all.sh test: pytest and nbval; run_all.sh lab: JupyterLab. Exit codes: 0 ok, 1 a notebook failed, 2 "
            "usage, 3 environment, 75 paused, 130 interrupted. A stopped run goes on where it was when the same "
            "command is given again."
        ),
    )
    study_options(p, "a notebook parameter, such as -p levels '[4, 8]'; may be repeated")
    p.set_defaults(preset=None)  # a grid's file may name one, which --preset overrides
    p.add_argument(
        "--grid", metavar="GRID.YAML", help="run all cells of a grid of parameters, into one table (README: Grids)"
    )
    p.add_argument("--shard", metavar="1/4", help="with --grid: only one part of its cells, here the first of four")
    p.add_argument("--only", metavar="02,03", help="only these notebooks, by number or name")
    p.add_argument("--from", dest="start", metavar="03", help="this notebook and those after it")
    p.add_argument("--seeds", metavar="N", help="initialisations (default 3; 1 is the quick look, without intervals)")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default=os.environ.get("LOTTO_DEVICE", "auto"))
    p.add_argument("--jobs", metavar="N", help="processes at a time (default: the cores)")
    scheduler_option(p)
    p.add_argument("--out", metavar="DIR", help="where results go (default runs/PRESET in the clone)")
    p.add_argument(
        "--time-limit", metavar="S", help="stop cleanly after S seconds; the same command goes on from there"
    )
    p.add_argument(
        "--force", action="store_true", help="execute up-to-date notebooks, too (stored products are still reused)"
    )
    p.add_argument("--keep-going", action="store_true", help="go on with the next notebook after a failure")
    p.add_argument(
        "--download", action="store_true", help="let torchvision download a missing data set (CIFAR: 170 MB)"
    )
    p.add_argument("--dry-run", action="store_true", help="say what would be run, and run nothing")
    p.add_argument(
        "--env", choices=("auto", "conda", "venv", "current"), help="(read by run_all.sh) which environment to use"
    )
    return p


def run(argv: Sequence[str]) -> int:
    """The command behind `run_all.sh`."""
    args = parser().parse_args(argv)
    os.environ["LOTTO_DEVICE"] = args.device
    if args.jobs is not None:
        os.environ["LOTTO_JOBS"] = args.jobs
    if args.download:
        os.environ["LOTTO_DOWNLOAD"] = "1"
    limit(args.time_limit)
    use_scheduler(args.scheduler)
    from lotto.lab import batch

    parallel.jobs()  # a wrong --jobs or --device is reported now
    seeds = {"seeds": value(args.seeds)} if args.seeds is not None else {}
    named = parameters(args)
    if seeds and "seeds" in named:
        raise ConfigError(
            f"--seeds {args.seeds} and -p seeds {named['seeds']}: the same parameter twice; drop one of them"
        )
    given = {"preset": args.preset, **seeds, **named}
    if args.grid is not None:
        return _grid(args, given)
    if args.shard is not None:
        raise ConfigError(f"shard = {args.shard!r}: only a grid has parts; give --grid too")
    given["preset"] = args.preset or "digits"
    jobs, described = batch.plan(choose(args.only, args.start), given, args.out)
    if args.dry_run:
        for job in jobs:
            ready = "up to date" if up_to_date(job) and not args.force else "would run"
            print(f"{job.name}: {ready}, {job.parameters} -> {job.result}")
        return OK
    return batch.run(jobs, described, args.force, args.keep_going)


def _grid(args: argparse.Namespace, given: dict[str, Any]) -> int:
    from lotto.lab import cells, grid

    asked = grid.read(args.grid)
    sources = choose(asked.notebooks if args.only is None else args.only, args.start)
    every = grid.plan(asked, given, sources, args.out)
    mine = grid.shard(every, args.shard)
    if args.dry_run:
        grid.list_cells(mine, args.force)
        return OK
    return cells.run(every, mine, asked.name, args.force)


def main(argv: Sequence[str]) -> int:
    """Run the command that `argv` names; a user's error is printed as one sentence, with exit code 2."""

    from lotto.data import DataError
    from lotto.lab.store import StoreError

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)  # also if the shell has it ignored (a background job)
    for name in ("LOTTO_STORE", "LOTTO_DATA"):  # relative to the caller's folder, not the kernels'
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).expanduser().resolve())
    try:
        return COMMANDS[argv[0]](argv[1:]) if argv and argv[0] in COMMANDS else run(argv)
    except Paused as error:
        print(error, file=sys.stderr)
        return PAUSED
    except (ConfigError, DataError, StoreError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
