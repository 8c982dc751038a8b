"""The commands behind `python -m lotto.run NAME`."""

from __future__ import annotations

import _thread
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lotto.lab import parallel, stills
from lotto.lab.notebooks import CLONE, NOTEBOOKS, OK, choose, kernel_environment, known_parameters
from lotto.lab.options import limit, parameters, scheduler_option, study_options, use_scheduler, value
from lotto.lab.presets import study


def refresh(argv: Sequence[str]) -> int:
    """Execute the committed notebooks in place."""
    from lotto.lab import batch, committed

    batch.look_for_a_browser()
    for notebook in choose(",".join(argv) or None, None, every=True):
        print(f"{notebook.name} ...", flush=True)
        committed.refresh(notebook)
    return OK


def compute(argv: Sequence[str]) -> int:
    """Compute the tickets of a study, their children and the paths between these: what its curves are drawn from."""
    from lotto.lab.check import check
    from lotto.lab.stability.products import segments

    p = argparse.ArgumentParser(prog="python -m lotto.run compute")
    study_options(p, "as for run_all.sh")
    p.add_argument("--attached", action="store_true", help="end when standard input is closed")
    p.add_argument("--time-limit", metavar="S", help="stop cleanly after S seconds")
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
    """Compute a planned reference run, or continue it, and draw its barriers."""
    from lotto.lab.claims import plans, runs

    p = argparse.ArgumentParser(prog="python -m lotto.run reference")
    p.add_argument("name", help=f"one of {', '.join(plans.PLANS)}")
    p.add_argument("--seeds", type=int, help="fewer initialisations than planned, at least 5")
    p.add_argument("--batches", default="", help="only these batches of the plan, separated by commas")
    p.add_argument(
        "--time-limit", metavar="S", help="stop cleanly after S seconds; the same command goes on from there"
    )
    scheduler_option(p)
    args = p.parse_args(argv)
    limit(args.time_limit)
    use_scheduler(args.scheduler)
    print(runs.make(args.name, args.seeds, [b for b in args.batches.split(",") if b]))
    return OK


def claims(argv: Sequence[str]) -> int:
    """Write the README's board, the page of all claims beside the reference tables, and a picture of each run's
    barriers."""
    from lotto.lab import plots
    from lotto.lab.claims import board, page, runs

    file = CLONE / "README.md"
    file.write_text(board.readme(file.read_text()))
    (runs.FOLDER / "CLAIMS.md").write_text(page.page())
    for name in board.columns():
        if kept := runs.known(name):
            at = kept.regime.main
            batches = kept.facts["batches"]
            some = [batches["main level"]] if "main level" in batches else batches.values()
            drawn = {"herding", "hybrid"}.union(*(batch["methods"] for batch in some))
            drawn -= {"dense-rewound"}  # its line would hide the rule's
            arms = [m for m in board.means(kept, "barrier", at) if m in drawn]
            seen = kept.view(methods=arms, levels=[at])
            title = f"Error barriers, {plots.counted(seen)} of {name}: mean, 95 % interval, each initialisation"
            fig = plots.dots(kept.tables["barrier"], seen, "barrier", "error barrier (points)", title, mark=2)
            if picture := stills.still(fig):
                (runs.FOLDER / f"{name}.png").write_bytes(picture)
    return OK


def card(argv: Sequence[str]) -> int:
    """Print what the study's distilled sets, or the set in a file, are worth, as JSON."""
    p = argparse.ArgumentParser(prog="python -m lotto.run card")
    p.add_argument(
        "file",
        nargs="?",
        help="a SynSet, or a published set (formats: lotto.distill.files); default: the study's own sets",
    )
    study_options(p, "as for run_all.sh")
    p.add_argument(
        "--estimate",
        action="store_true",
        help="only estimate the cost of distilling a set of each size here, from a few steps",
    )
    p.add_argument(
        "--space",
        choices=("pixels", "normalised", "whitened"),
        help="what the file's images are (default: as its format says, else inferred from their values)",
    )
    p.add_argument(
        "--whitened", dest="space", action="store_const", const="whitened", help="short for --space whitened"
    )
    p.add_argument("--factor", type=int, help="the factor of an IDC file, which does not record it")
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


def hand_on(argv: Sequence[str]) -> int:
    """Pack a finished run and the products that it used into one file."""
    from lotto.lab import archive, batch

    p = argparse.ArgumentParser(prog="python -m lotto.run export")
    p.add_argument("file", type=Path, metavar="RUN.zip", help="the archive to write")
    study_options(p, "a parameter of the run, as it was given to run_all.sh; may be repeated")
    p.add_argument("--seeds", metavar="N", help="as it was given to run_all.sh")
    p.add_argument("--out", metavar="DIR", help="the run's folder, where --out was given to run_all.sh")
    p.add_argument("--weights", action="store_true", help="pack the weights of trained nets too")
    args = p.parse_args(argv)
    seeds = {"seeds": value(args.seeds)} if args.seeds is not None else {}
    folder = batch.place(args.preset, {**seeds, **parameters(args)}, args.out)
    file = args.file.expanduser().resolve()
    told = archive.export(folder, file, args.weights)
    print(f"{args.file}, {file.stat().st_size / 1e6:.1f} MB: {archive.summary(told)}")
    return OK


def bring_in(argv: Sequence[str]) -> int:
    """Put an archive's products into the store, and its notebooks into the folder of their run."""
    from lotto.lab import archive, arrival

    p = argparse.ArgumentParser(prog="python -m lotto.run import")
    p.add_argument("file", type=Path, metavar="RUN.zip", help="an archive that `export` made")
    p.add_argument("--out", metavar="DIR", help="where its notebooks go (default: where run_all.sh looks for them)")
    args = p.parse_args(argv)
    found = arrival.bring(args.file.expanduser(), args.out)
    preset, given = found.manifest["parameters"]["preset"], found.manifest["parameters"]
    words = ["./run_all.sh", "--preset", preset]
    words += [w for n, v in given.items() if n != "preset" for w in ("-p", n, json.dumps(v))]
    words += ["--out", args.out] if args.out else []
    print(f"{args.file}: {archive.summary(found.manifest)}")
    print(f"products: {found.new} new in the store, {found.kept} were there already; the same run: {shlex.join(words)}")
    print(f"results (page opens offline): {found.out / 'index.html'}")
    return OK


def ticket(argv: Sequence[str]) -> int:
    """Write a ticket to a file, and print what is in it as JSON."""
    p = argparse.ArgumentParser(prog="python -m lotto.run ticket")
    p.add_argument("method", help="an arm, such as imp or distilled")
    p.add_argument("level", type=int, help="rounds of pruning")
    p.add_argument("seed", type=int, help="initialisation")
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write (safetensors)")
    p.add_argument(
        "--as",
        dest="kind",
        choices=("dense", "mask", "compact"),
        default="dense",
        help="the whole net, pruned weights 0 (default); its mask, one bit per weight; the net without dead channels",
    )
    p.add_argument("--child", type=int, default=1, metavar="N", help="after its training N (default 1; 0: before any)")
    study_options(p, "as for run_all.sh")
    args = p.parse_args(argv)
    described = study(args.preset, **parameters(args))
    from lotto.lab import worth
    from lotto.lab.check import check

    check(described)
    found = worth.write(described, args.method, args.level, args.seed, args.child, args.kind, args.out)
    print(json.dumps(found, indent=1))
    return OK


def gpu_plan(argv: Sequence[str]) -> int:
    """Print what a planned reference run still lacks, in slices of GPU time."""
    p = argparse.ArgumentParser(prog="python -m lotto.run gpu-plan")
    p.add_argument("--preset", default="cifar10", help="a planned run with tables of known cost (default cifar10)")
    p.add_argument(
        "--img-per-s",
        dest="rate",
        type=float,
        default=20_000,
        metavar="R",
        help="images per second at which its net trains, as lotto.bench measures it (default 20000: a guess)",
    )
    p.add_argument("--slice", type=float, default=8, metavar="MIN", help="minutes of GPU time per slice (default 8)")
    p.add_argument("--seeds", type=int, metavar="N", help="only the first N initialisations")
    args = p.parse_args(argv)
    from lotto.lab.claims import slices

    found = slices.plan(args.preset, args.rate, args.slice, args.seeds)
    print(
        f"{args.preset} at {args.rate:,.0f} images/s, in slices of {args.slice:g} minutes; each slice:\n"
        f"python -m lotto.run reference {args.preset} --time-limit {60 * args.slice:g}\n\n{slices.told(found)}"
    )
    return OK


def test(argv: Sequence[str]) -> int:
    """Run pytest over tests/ (one process per core) in a temporary store, then nbval over the notebooks with one
    initialisation, in the store that LOTTO_STORE names, to reuse its products, or else in the temporary one; return the
    first exit code that is not 0."""
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
        # two calls, so that pytest's settings (jaxtyping's checks, warnings as errors) do not reach nbval's kernels
        with kernel_environment(LOTTO_STORE=scratch, LOTTO_STILLS="0"):
            first = subprocess.call([sys.executable, "-m", "pytest", *spread, *argv], cwd=CLONE)
        if argv:  # a part of the tests was asked for
            return first
        books = _of_one_initialisation(Path(scratch) / "notebooks")
        with kernel_environment(LOTTO_STORE=named or scratch, LOTTO_STILLS="0"):
            second = subprocess.call([sys.executable, "-m", "pytest", *nbval, *map(str, books)], cwd=CLONE)
    return first or second


def _of_one_initialisation(folder: Path) -> list[Path]:
    """Copies of the notebooks as papermill would run them with `seeds` 1: what nbval compares in them does not depend
    on that number, and three times as many trainings would not test more."""
    import nbformat
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    folder.mkdir()
    (folder / "reference").symlink_to(NOTEBOOKS / "reference")
    for source in choose(None, None, every=True):
        book = load_notebook_node(str(source))
        if "seeds" in known_parameters(source):
            book = parameterize_notebook(book, {"seeds": 1})
        nbformat.write(book, folder / source.name)
    return sorted(folder.glob("*.ipynb"))


COMMANDS = {
    "refresh": refresh,
    "compute": compute,
    "reference": reference,
    "claims": claims,
    "card": card,
    "export": hand_on,
    "import": bring_in,
    "ticket": ticket,
    "gpu-plan": gpu_plan,
    "test": test,
}
"""Name -> its function, from the arguments after the name to an exit code."""
