"""The commands behind `python -m lotto.run NAME`, and the options that they share with a run."""

from __future__ import annotations

import _thread
import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

from lotto.config import ConfigError
from lotto.lab import notebooks, parallel, stills
from lotto.lab.notebooks import CLONE, OK, choose, kernel_environment
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


def refresh(argv: Sequence[str]) -> int:
    """Execute the committed notebooks in place."""
    from lotto.lab import batch

    batch.look_for_a_browser()
    for notebook in choose(",".join(argv) or None, None):
        print(f"{notebook.name} ...", flush=True)
        notebooks.refresh(notebook)
    return OK


def compute(argv: Sequence[str]) -> int:
    """Compute the tickets of a study, their children and the paths between these: what curves are made of."""
    from lotto.lab.check import check
    from lotto.lab.stability.products import segments

    p = argparse.ArgumentParser(prog="python -m lotto.run compute")
    study_options(p, "as for run_all.sh")
    p.add_argument("--attached", action="store_true", help="end when standard input does")
    p.add_argument("--time-limit", metavar="S", help="stop cleanly after so many seconds")
    args = p.parse_args(argv)
    limit(args.time_limit)
    if args.attached:
        threading.Thread(target=_interrupted_at_the_end, daemon=True).start()
    found = segments(check(study(args.preset, **parameters(args))))
    print(f"{sum(map(len, found))} paths are in the store")
    return OK


def _interrupted_at_the_end() -> None:
    sys.stdin.read()
    _thread.interrupt_main()


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


COMMANDS = {
    "refresh": refresh,
    "compute": compute,
    "reference": reference,
    "claims": claims,
    "card": card,
    "test": test,
}
"""Name -> what runs it: a function of the words after the name that returns an exit code."""
