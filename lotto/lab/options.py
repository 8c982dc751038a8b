"""Options that several commands share: which study is meant, for how long, and where it is computed."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lotto.config import ConfigError
from lotto.lab import scheduler
from lotto.lab.presets import PRESETS


def value(text: str) -> Any:
    """The value of `-p NAME VALUE`: a number, true, false, null, a list or a mapping as YAML reads it, else text.

    >>> value("0.5"), value("[4, 8]"), value("true"), value("4,8")
    (0.5, [4, 8], True, '4,8')
    """
    import yaml

    try:
        return None if text == "None" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: what looks like a date, and is none
        return text


def limit(text: str | None) -> None:
    """Make what follows pause cleanly after the seconds of `--time-limit` (None: never). ConfigError if they are not a
    finite number above 0."""
    if text is None:
        return
    with contextlib.suppress(ValueError):
        if 0 < (found := float(text)) < float("inf"):
            os.environ["LOTTO_DEADLINE"] = str(time.time() + found)
            return
    raise ConfigError(f"time-limit = {text!r}: give a number of seconds above 0, such as 540")


def scheduler_option(p: argparse.ArgumentParser) -> None:
    """The option that says where products are computed."""
    told = "compute on a Dask cluster: local:N (N worker processes here) or tcp://host:port (default: processes here)"
    p.add_argument("--scheduler", metavar="ADDRESS", help=told)


def use_scheduler(text: str | None) -> None:
    """Make what follows compute on the cluster that `--scheduler` names (None: the one of LOTTO_SCHEDULER, if any),
    after checking it. ConfigError says what is wrong with it."""
    if text is not None:
        os.environ["LOTTO_SCHEDULER"] = text
    scheduler.check()


def study_options(p: argparse.ArgumentParser, told: str) -> None:
    """The options that say which study is meant; `told` is the help for its parameters."""
    p.add_argument("--preset", default="digits", help=f"one of {', '.join(PRESETS)} (default digits)")
    pair = ("NAME", "VALUE")
    p.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=pair, help=told)


def parameters(args: argparse.Namespace) -> dict[str, Any]:
    """The parameters given with `-p`: name -> value. ConfigError for where a study begins, which is none."""
    given = dict(args.parameters)
    if "preset" in given:
        raise ConfigError(f"-p preset {given['preset']}: is no parameter of a study; write --preset {given['preset']}")
    if "variant" in given:
        raise ConfigError(f"-p variant {given['variant']}: is no parameter of a study; each notebook has its own")
    return absolute({name: value(text) for name, text in args.parameters})


def absolute(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, also those in `more`, with the files that they name relative to the caller's folder, which is
    neither the kernels' nor another caller's: paths are in the keys of products."""
    found = dict(given)
    if isinstance(found.get("more"), Mapping):
        found["more"] = absolute(found["more"])
    for name in ("data", "own_set"):
        named = found.get(name) if isinstance(found.get(name), str) else ""
        if named and (name == "own_set" or named.endswith(".npz")):
            found[name] = str(Path(named).expanduser().resolve())
    return found
