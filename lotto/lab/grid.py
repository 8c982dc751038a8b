"""A grid: one study at many values of its parameters. Each cell is a run of notebooks; all share a store and a table.

A grid is a YAML file of parameters and lists of values (`read`):

    notebooks: "02,03"                                    # by default all
    base: {levels: [4, 8]}                                # what all cells share
    cross: {ipc: [5, 10], distill_method: [dist, grad]}   # every value with every other
    zip: {lr: [0.4, 0.8], steps: [300, 200]}              # the first with the first, the second with the second
    seeds: 3                                              # initialisations in each cell; [0, 1, 2]: a cell for each

`plan` makes its cells and checks them all, `lotto.lab.cells` executes those that are not up to date, `lotto.lab.gather`
keeps their table.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lotto.config import ConfigError, nearest
from lotto.data import DataError
from lotto.lab import batch, presets
from lotto.lab.gather import Cell
from lotto.lab.groups import DEFAULTS, OF_ONE, PLACES
from lotto.lab.notebooks import CLONE, digest, up_to_date
from lotto.lab.study import Study

PARTS = ("notebooks", "base", "cross", "zip", "seeds")
"""The keys that a grid's file may have."""
MOST = 10_000
"""The most cells that a grid may have."""


# what is asked


@dataclasses.dataclass(frozen=True)
class Grid:
    """What a grid's file asks for."""

    name: str
    notebooks: str | None
    base: dict[str, Any]
    """Parameters that all cells share."""
    cells: list[dict[str, Any]]
    """The varied parameters of each cell; the last in the file changes fastest."""
    own: tuple[str, ...]
    """Parameters that the command line may not set: the varied ones, and `seeds` beside a list of seeds."""


def read(file: str) -> Grid:
    """The grid that a YAML file describes, named after the file. ConfigError says what cannot be read and how to fix
    it."""
    try:
        asked = yaml.load(Path(file).read_text(), _Once)
        json.dumps(asked)  # YAML knows dates, bytes and circles, which are values of nothing here
        return expand(asked, Path(file).stem)
    except OSError as error:
        trouble = f"cannot be read ({error.strerror})"
    except ConfigError as error:
        raise ConfigError(f"grid {file}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: other bytes than text, a date that is none
        trouble = f"is not valid YAML ({' '.join(str(error).split())})"
    except (TypeError, RecursionError) as error:
        trouble = f"holds what is no parameter ({error})"
    raise ConfigError(
        f"grid = {file!r}: {trouble}; give a file of parameters and lists, such as 'cross: {{ipc: [5, 10]}}'"
    )


class _Once(yaml.SafeLoader):
    """A safe loader that refuses repeated keys, of which YAML would silently keep the last."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := [k for k in keys if keys.count(k) > 1]:
            line = node.start_mark.line + 1
            raise ConfigError(f"{twice[0]!r} appears twice in one mapping (line {line}); give it once")
        return super().construct_mapping(node, deep)


def expand(asked: Any, name: str) -> Grid:
    """The grid that plain data describes; ConfigError if they are malformed. `plan` checks whether a study has these
    parameters and takes these values.

    >>> [c["ipc"] for c in expand({"cross": {"ipc": [5, 10]}}, "g").cells]
    [5, 10]
    """
    if not isinstance(asked, Mapping) or not asked:
        raise ConfigError(f"{asked!r} is not a grid; give {', '.join(PARTS)}, such as 'cross: {{ipc: [5, 10]}}'")
    if other := [key for key in asked if key not in PARTS]:
        known = other[0] in {*Study.model_fields, *PLACES, *OF_ONE}
        fix = "put it under cross, zip or base" if known else nearest(str(other[0]), list(PARTS))
        raise ConfigError(f"{other[0]!r} is not a part of a grid; {fix}")
    cross, together = _lists("cross", asked.get("cross")), _lists("zip", asked.get("zip"))
    base, seeds, notebooks = _mapping("base", asked.get("base")), asked.get("seeds"), asked.get("notebooks")
    if len(lengths := {n: len(values) for n, values in together.items()}) and len(set(lengths.values())) > 1:
        told = ", ".join(f"{n} has {k}" for n, k in lengths.items())
        raise ConfigError(f"zip: {told}; give lists of one length, or put one of them under cross")
    if seeds == []:
        raise ConfigError(
            "seeds = []: give at least one initialisation, such as [0, 1, 2], or their number in each cell"
        )
    firsts = {"first_seed": seeds} if isinstance(seeds, list) else {}
    alone = {"seeds": 1 if firsts else seeds} if seeds is not None else {}
    places = {"cross": cross, "zip": together, "base": base, "seeds": {**firsts, **alone}}
    for (one, a), (two, b) in itertools.combinations(places.items(), 2):
        if both := sorted(a.keys() & b.keys()):
            raise ConfigError(f"{both[0]!r} is given under {one} and by {two}; give it once")
    if not (cross or together or firsts):
        raise ConfigError("nothing varies; give lists of values under cross or zip, or a list of seeds")
    zipped = [dict(zip(together, row, strict=True)) for row in zip(*together.values(), strict=True)] or [{}]
    axes = [[{n: v} for v in values] for n, values in cross.items()]
    axes += [zipped, [{"first_seed": s} for s in firsts.get("first_seed", ())] or [{}]]
    if (count := math.prod(map(len, axes))) > MOST:
        raise ConfigError(f"{count:,} cells are more than {MOST:,}; cross fewer values, or zip them")
    cells = [{n: v for part in parts for n, v in part.items()} for parts in itertools.product(*axes)]
    own = (*cells[0], *(alone if firsts else ()))
    return Grid(name, None if notebooks is None else _numbers(notebooks), {**base, **alone}, cells, own)


def _mapping(part: str, given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{part} = {given!r}: give names with values, such as '{part}: {{ipc: [5, 10]}}'")
    return {str(name): value for name, value in (given or {}).items()}


def _lists(part: str, given: Any) -> dict[str, list]:
    found = _mapping(part, given)
    for name, values in found.items():
        if not isinstance(values, list):
            raise ConfigError(
                f"{part}: {name} = {values!r}: give a list of values; a value for all cells belongs under base"
            )
        if not values:
            raise ConfigError(f"{part}: {name} = []: give at least one value")
    return found


def _numbers(notebooks: Any) -> str:
    """Notebooks as `--only` takes them, from text, a list or one number."""
    return ",".join(map(str, notebooks)) if isinstance(notebooks, list) else str(notebooks)


# what is done


def plan(grid: Grid, given: Mapping[str, Any], sources: Sequence[Path], out: str | None = None) -> list[Cell]:
    """The cells of a grid with the notebooks `sources`, each cell checked like a single run, before anything runs.

    given: parameters of the command line; they override the grid's base. ConfigError names the cell.
    """
    if both := [n for n in grid.own if given.get(n) is not None]:
        raise ConfigError(f"{both[0]!r} is given by grid {grid.name} and on the command line; drop one of them")
    if groups := [n for values in grid.cells for n in values if n in DEFAULTS and n not in PLACES]:
        raise ConfigError(f"grid {grid.name}: {groups[0]!r} is a group of parameters; vary single ones of it")
    place = Path(out).expanduser().resolve() if out else CLONE / "runs" / f"grid-{grid.name}"
    cells: dict[Study, Cell] = {}
    for values in grid.cells:
        name = named(values)
        whole = {"preset": "digits", **grid.base, **{n: v for n, v in given.items() if v is not None}, **values}
        try:
            presets.study(whole["preset"], more={n: v for n, v in whole.items() if n != "preset"})
            jobs, study = batch.plan(sources, whole, str(place / name))
        except (ConfigError, DataError) as error:
            raise ConfigError(f"grid {grid.name}, cell {name}: {error}{_hint(values, whole['preset'])}") from None
        if study in cells:
            raise ConfigError(
                f"grid {grid.name}: cells {cells[study].name} and {name} are one study; drop one of their values"
            )
        cells[study] = Cell(name, place / name, tuple(values), jobs, study)
    return list(cells.values())


def _hint(values: Mapping[str, Any], preset: str) -> str:
    """What to write if single values were given for a parameter whose values are lists."""
    plain = presets.study(preset).named() if preset in presets.PRESETS else {}
    for name, value in values.items():
        if isinstance(plain.get(name), list) and not isinstance(value, list):
            return f" Each value of {name} is a list itself: write [[{value}], ...]."
    return ""


def named(values: Mapping[str, Any]) -> str:
    """The name of a cell's folder: its varied parameters in readable form. It depends on nothing else, so that a cell
    keeps its folder when values are added to the grid.

    >>> named({"ipc": 5, "levels": [4, 8]})
    'ipc=5,levels=4+8'
    """
    told = ",".join(f"{n}={'+'.join(map(str, v)) if isinstance(v, list) else v}" for n, v in values.items())
    safe = re.sub(r"[^\w.,=+-]", "_", told)
    return safe if safe == told and len(safe) <= 100 else f"{safe[:90]}-{digest(values)[:8]}"


def shard(cells: Sequence[Cell], text: str | None) -> list[Cell]:
    """One part of a grid's cells, such as "2/4", the second of four; None: all. ConfigError for any other text."""
    if text is None:
        return list(cells)
    if not (found := re.fullmatch(r"(\d+)/(\d+)", text)) or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"shard = {text!r}: give a part and the number of parts, such as 1/4 to 4/4")
    return list(cells[int(found[1]) - 1 :: int(found[2])])


def list_cells(mine: Sequence[Cell], force: bool) -> None:
    """Print for each cell whether it would run, and its folder."""
    for cell in mine:
        ready = not force and all(map(up_to_date, cell.jobs))
        print(f"{cell.name}: {'up to date' if ready else 'would run'} -> {cell.folder}")
    print(f"{len(mine)} cells of {', '.join(j.name for j in mine[0].jobs)}" if mine else "no cells")
