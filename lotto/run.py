"""Behind run_all.sh: the notebooks by papermill, their regeneration, the tests, the reference tables.

    python -m lotto.run [options]              run the notebooks
    python -m lotto.run refresh                execute the committed notebooks in place, at their own parameters
    python -m lotto.run reference NAME [...]   compute a study and keep its tables in notebooks/reference
    python -m lotto.run claims                 write the README's table of claims from the reference tables
    python -m lotto.run card [FILE] [...]      what the study's distilled sets, or the set in a file, are worth, as JSON
    python -m lotto.run test [pytest options]  pytest, then nbval over the notebooks, with one temporary store

Exit codes: 0 all went well, 1 a notebook or a test failed, 2 the call or a value in it is wrong, 75 paused (the time
given is up), 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lotto.checkpoint import Paused
from lotto.config import ConfigError
from lotto.lab import notebooks, parallel, stills
from lotto.lab.notebooks import (
    CLONE,
    INTERRUPTED,
    OK,
    PAUSED,
    USAGE,
    choose,
    kernel_environment,
    up_to_date,
)
from lotto.lab.presets import PRESETS, study


def value(text: str) -> Any:
    """What `-p NAME VALUE` means: a number, true, false, null or a list or mapping where YAML spells one, else text.

    >>> value("0.5"), value("[4, 8]"), value("true"), value("4,8")
    (0.5, [4, 8], True, '4,8')
    """
    import yaml

    try:
        return None if text == "None" else yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def limit(text: str | None) -> None:
    """Let what follows pause cleanly once the seconds of `--time-limit` are up (None: never). ConfigError for no finite
    number above 0."""
    if text is None:
        return
    with contextlib.suppress(ValueError):
        if 0 < (found := float(text)) < float("inf"):
            os.environ["LOTTO_DEADLINE"] = str(time.time() + found)
            return
    raise ConfigError(f"time-limit = {text!r}: give a number of seconds above 0, such as 540")


def study_options(p: argparse.ArgumentParser, told: str) -> None:
    """The options that say which study is meant; `told` is the help for its parameters."""
    p.add_argument("--preset", default="digits", help=f"one of {', '.join(PRESETS)} (default digits)")
    pair = ("NAME", "VALUE")
    p.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=pair, help=told)


def parameters(args: argparse.Namespace) -> dict[str, Any]:
    """What was given with `-p`."""
    return {name: value(text) for name, text in args.parameters}


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
    study_options(p, "a notebook parameter, such as -p levels '[4, 8]'; may be given often")
    p.add_argument("--only", metavar="02,03", help="only these notebooks, by number or name")
    p.add_argument("--from", dest="start", metavar="03", help="this notebook and those after it")
    p.add_argument("--seeds", metavar="N", help="initialisations (default 3; 1 is the quick look, without intervals)")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default=os.environ.get("LOTTO_DEVICE", "auto"))
    p.add_argument("--jobs", metavar="N", help="processes at a time (default: the cores)")
    p.add_argument("--out", metavar="DIR", help="where results go (default runs/PRESET in the clone)")
    p.add_argument(
        "--time-limit", metavar="S", help="stop cleanly after so many seconds; the same command goes on from there"
    )
    p.add_argument(
        "--force", action="store_true", help="execute also what is up to date (stored products are still reused)"
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
    from lotto.lab import batch

    parallel.jobs()  # a wrong --jobs or --device is told now
    seeds = {"seeds": value(args.seeds)} if args.seeds is not None else {}
    given = {"preset": args.preset, **seeds, **parameters(args)}
    jobs, described = batch.plan(choose(args.only, args.start), given, args.out)
    if args.dry_run:
        for job in jobs:
            ready = "up to date" if up_to_date(job) and not args.force else "would run"
            print(f"{job.name}: {ready}, {job.parameters} -> {job.result}")
        return OK
    return batch.run(jobs, described, args.force, args.keep_going)


def refresh(argv: Sequence[str]) -> int:
    """Execute the committed notebooks in place."""
    from lotto.lab import batch

    batch.look_for_a_browser()
    for notebook in choose(",".join(argv) or None, None):
        print(f"{notebook.name} ...", flush=True)
        notebooks.refresh(notebook)
    return OK


def reference(argv: Sequence[str]) -> int:
    """Compute a planned reference run, or go on with it, and draw its barriers."""
    from lotto.lab.claims import plans, runs

    p = argparse.ArgumentParser(prog="python -m lotto.run reference")
    p.add_argument("name", help=f"one of {', '.join(plans.PLANS)}")
    p.add_argument("--seeds", type=int, help="fewer initialisations than planned, at least 5")
    p.add_argument("--batches", default="", help="only these batches of the plan, with commas")
    p.add_argument(
        "--time-limit", metavar="S", help="stop cleanly after so many seconds; the same command goes on from there"
    )
    args = p.parse_args(argv)
    limit(args.time_limit)
    print(runs.make(args.name, args.seeds, [b for b in args.batches.split(",") if b]))
    return OK


def claims(argv: Sequence[str]) -> int:
    """Write the README's board, the page of all claims beside the reference tables, and a picture of each run's
    barriers."""
    from lotto.lab import plots
    from lotto.lab.claims import board, runs

    file = CLONE / "README.md"
    file.write_text(board.readme(file.read_text()))
    (runs.FOLDER / "CLAIMS.md").write_text(board.page())
    for preset in PRESETS:
        if kept := runs.known(preset):
            seen = kept.view("main level")
            title = f"Error barrier between children, {plots.counted(seen)} of {preset}: mean, 95 % interval, each"
            fig = plots.dots(kept.tables["barrier"], seen, "barrier", "error barrier (points)", title, mark=2)
            if picture := stills.still(fig):
                (runs.FOLDER / f"{preset}.png").write_bytes(picture)
    return OK


def card(argv: Sequence[str]) -> int:
    """Print what the study's distilled sets are worth, or the set in a file, as JSON."""
    p = argparse.ArgumentParser(prog="python -m lotto.run card")
    p.add_argument(
        "file",
        nargs="?",
        help="a SynSet, or what others have published (see lotto.distill.files); without: the study's own sets",
    )
    study_options(p, "as for run_all.sh")
    p.add_argument(
        "--estimate",
        action="store_true",
        help="only say what distilling a set of each size will cost here, from a few steps",
    )
    p.add_argument(
        "--space",
        choices=("pixels", "normalised", "whitened"),
        help="what the file's images are (without: what its format keeps, else told by their values)",
    )
    p.add_argument(
        "--whitened", dest="space", action="store_const", const="whitened", help="short for --space whitened"
    )
    p.add_argument("--factor", type=int, help="of IDC's files, which do not say")
    args = p.parse_args(argv)
    described = study(args.preset, **parameters(args))
    from lotto.distill.synset import SynSet
    from lotto.lab import sources
    from lotto.lab.check import check
    from lotto.lab.describe import SetOf
    from lotto.lab.sets import cards
    from lotto.lab.sets.products import estimate

    check(described)
    if args.estimate:
        sets = {
            i: SetOf(data=described.data, images=described.but(ipc=i).images("distilled", 0))
            for i in described.judge.ipcs
        }
        found: Any = [
            {"images a class": i, **{n: round(v, 4) for n, v in estimate(w).items()}} for i, w in sets.items()
        ]
    elif args.file is None:
        found = [cards.card(described, ipc) for ipc in described.judge.ipcs]
    else:
        small = SynSet.load(args.file, real=sources.load(described.data), space=args.space, factor=args.factor)
        found = cards.card_of(small, described)
    print(json.dumps(found, indent=1))
    return OK


def test(argv: Sequence[str]) -> int:
    """pytest over tests/ (a process a core) in a temporary store, then nbval over the notebooks, there too or in the
    store that LOTTO_STORE names, where what earlier runs computed is not computed again; the worse exit code."""
    spread = [] if argv or parallel.jobs() == 1 else ["-n", str(parallel.jobs()), "--dist", "loadfile"]
    nbval = [
        "--nbval-lax",
        "--nbval-current-env",
        "--nbval-cell-timeout",
        "3600",
        "-o",
        "filterwarnings=",
        "-p",
        "no:cacheprovider",
    ]
    named = os.environ.get("LOTTO_STORE")
    with tempfile.TemporaryDirectory(prefix="lotto-test-") as scratch:
        # two calls, so that the settings of the one (jaxtyping's checks, warnings as errors) do not reach the other's
        # kernels
        with kernel_environment(LOTTO_STORE=scratch, LOTTO_STILLS="0"):
            first = subprocess.call([sys.executable, "-m", "pytest", *spread, *argv], cwd=CLONE)
        if argv:  # a part of the tests was asked for
            return first
        with kernel_environment(LOTTO_STORE=named or scratch, LOTTO_STILLS="0"):
            second = subprocess.call([sys.executable, "-m", "pytest", *nbval, *map(str, choose(None, None))], cwd=CLONE)
    return first or second


def main(argv: Sequence[str]) -> int:
    """Dispatch; errors in what was asked are one sentence and exit code 2."""

    from lotto.data import DataError
    from lotto.lab.store import StoreError

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)  # also where the shell started us with it ignored (a background job)
    for name in ("LOTTO_STORE", "LOTTO_DATA"):  # relative to where we were called, not to where a kernel starts
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).expanduser().resolve())
    commands = {"refresh": refresh, "reference": reference, "claims": claims, "card": card, "test": test}
    try:
        return commands[argv[0]](argv[1:]) if argv and argv[0] in commands else run(argv)
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
