"""The cells of a grid beside one another: from the table that a grid leaves to estimates, differences and sentences.

Parameters that change together, as zipped ones do, are one axis of the grid. `first_seed` is not an axis: cells that
differ only in it are repetitions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lotto.config import ConfigError, nearest
from lotto.lab.arms import ARMS
from lotto.lab.claims.rules import MEASURES
from lotto.lab.notebooks import NOTEBOOKS
from lotto.stats import Interval, interval

if TYPE_CHECKING:
    import pandas as pd

SEED = "first_seed"


# the table


def read(file: str) -> pd.DataFrame:
    """The table of a grid, CSV or Parquet; its path is relative to the current folder or to that of the notebooks.
    ConfigError if there is no such file, or if it is not a grid's table."""
    import pandas as pd

    place = next((p for p in (Path(file), NOTEBOOKS / file) if p.is_file()), None)
    if place is None:
        raise ConfigError(f"table = {file!r}: no such file; give the table.csv or table.parquet of a grid")
    text = {"cell": "str", "error": "str"}  # else a column without any error is read as missing numbers
    try:
        found = pd.read_parquet(place) if place.suffix == ".parquet" else pd.read_csv(place, dtype=text)
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"table = {file!r}: cannot be read ({str(error).splitlines()[0]}); give one that a grid wrote"
        ) from None
    if missing := [name for name in ("cell", "status", "error", "seconds") if name not in found]:
        raise ConfigError(
            f"table = {file!r}: has no column {missing[0]!r}; give the table.csv or table.parquet of a grid"
        )
    return found.fillna({"error": ""})


def varied(table: pd.DataFrame) -> list[str]:
    """The parameters of the grid: the columns between the cell's name and its status."""
    names = list(table)
    return names[names.index("cell") + 1 : names.index("status")]


def axes(table: pd.DataFrame) -> dict[str, list[str]]:
    """Axis -> the parameters that change along it. If only the seed varies, it is the axis; if nothing varies, the
    cells are."""
    codes: dict[tuple, list[str]] = {}
    for name in [n for n in varied(table) if n != SEED and table[n].nunique(dropna=False) > 1]:
        codes.setdefault(tuple(table[name].map(_short).factorize()[0]), []).append(name)
    found = {", ".join(names): names for names in codes.values()}
    return found or ({SEED: [SEED]} if SEED in table and table[SEED].nunique() > 1 else {"cell": ["cell"]})


def shows(table: pd.DataFrame) -> list[str]:
    """What can be shown: the measures and claims that the table has estimates of, barriers first. ConfigError for a
    table without any."""
    found = list(dict.fromkeys(name.split("/")[0] for name in table if "/" in name))
    if not found:
        raise ConfigError("the table has no estimates, because no notebook of any cell finished; run the grid again")
    return sorted(found, key=lambda name: name != "barrier")


def _short(value: Any) -> str:
    """A value in readable form: JSON lists without brackets."""
    if isinstance(value, str) and value.startswith("["):
        return ", ".join(map(str, json.loads(value)))
    return f"{value:g}" if isinstance(value, float) else str(value)


def estimates(
    table: pd.DataFrame, show: str, level: int | None = None, arms: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row per (cell, series): the axes' values as text, its `seed`, `value` with its interval `low` to `high`,
    and `untrained`. A series is an arm, for a measure, or a comparison, for a claim.

    level: the level of a measure (for measures of sets: images per class), by default the highest; dense arms are
    always included. arms: only these. ConfigError for what the table does not have.
    """
    import pandas as pd

    if show not in shows(table):
        raise ConfigError(f"show = {show!r}: the table has no such estimate; {nearest(show, shows(table))}")
    named = [n for n in table if n.split("/")[0] == show and n.split("/")[-1] not in ("low", "high", "untrained")]
    if show in MEASURES:
        there = sorted({int(n.split("/")[2]) for n in named})
        if level is not None and level not in there:
            raise ConfigError(f"level = {level}: the table has no {show} there; give one of {there}")
        named = [n for n in named if n.split("/")[2] in (str(there[-1] if level is None else level), "0")]
    if arms:
        kept = [n for n in named if set(n.split("/")) & set(arms)]
        known = dict.fromkeys(n.split("/")[1 if show in MEASURES else 2] for n in named)
        if not kept:
            raise ConfigError(f"arms = {list(arms)}: the table has none of them; it has {', '.join(known)}")
        named = kept
    rows, along = [], axes(table)
    for cell in table.to_dict("records"):
        place = {axis: placed(cell, names) for axis, names in along.items()}
        for n in [n for n in named if not pd.isna(cell[n])]:
            beside = {c: cell.get(f"{n}/{c}") for c in ("low", "high", "untrained")}
            told = {"cell": cell["cell"], **place, "seed": cell.get(SEED, 0), "series": n, "value": cell[n]}
            rows.append({**told, **beside})
    names = ["cell", *along, "seed", "series", "value", "low", "high", "untrained"]
    return pd.DataFrame(rows, columns=list(dict.fromkeys(names)))


def placed(cell: dict[str, Any], names: Sequence[str]) -> str:
    """Where a cell lies on an axis, as text."""
    told = {n: _short(cell[n]) for n in names}
    return next(iter(told.values())) if len(told) == 1 else ", ".join(f"{n} {v}" for n, v in told.items())


def title(series: str) -> str:
    """A series' name for readers: the arm's title, or what a claim compares."""
    show, *parts = series.split("/")
    if show in MEASURES:
        return _arm(parts[0])
    return f"{parts[0]}: {' minus '.join(map(_arm, parts[1:]))}"


def _arm(name: str) -> str:
    return ARMS[name].title if name in ARMS else name


# differences


def differences(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """One row per (axis, value, series): how much the estimate changes from the axis' first value to this one, all
    other axes held equal: the mean over `pairs` of cells and its 95 % interval, over `n` initialisations, as pairs that
    share one are not independent; of a single one over the pairs, and so over what else varies.

    If each of the two values has exactly one series that the other lacks, these two are compared: this compares arms
    that the cells do not share.
    """
    import pandas as pd

    rows, along = [], axes(table)
    for axis in along:
        others = [a for a in along if a != axis]
        keys = [tuple(k) for k in found[[*others, "seed"]].itertuples(index=False)]
        values = dict(zip(zip(keys, found[axis], found.series, strict=True), found.value, strict=True))
        first, *rest = ordered(table, axis)
        for to in rest:
            for a, b in _facing(found[found[axis] == first].series, found[found[axis] == to].series):
                both = [k for k in dict.fromkeys(keys) if (k, first, a) in values and (k, to, b) in values]
                if both:
                    name = title(b) if a == b else f"{title(b)} against {title(a)}"
                    change = _over_seeds([(k[-1], values[k, to, b] - values[k, first, a]) for k in both])
                    told = {"axis": axis, "from": first, "to": to, "series": name, "pairs": len(both)}
                    rows.append({**told, **change._asdict()})
    return pd.DataFrame(rows, columns=["axis", "from", "to", "series", "pairs", *Interval._fields])


def _over_seeds(found: Sequence[tuple[int, float]]) -> Interval:
    """The interval of the means of each initialisation, or of the values where there is one initialisation only."""
    by: dict[int, list[float]] = {}
    for seed, value in found:
        by.setdefault(seed, []).append(value)
    return interval([sum(v) / len(v) for v in by.values()] if len(by) > 1 else [v for _, v in found])


def _facing(one: pd.Series, two: pd.Series) -> list[tuple[str, str]]:
    a, b = list(dict.fromkeys(one)), list(dict.fromkeys(two))
    left, right = [s for s in a if s not in b], [s for s in b if s not in a]
    return [(s, s) for s in a if s in b] + ([(left[0], right[0])] if len(left) == len(right) == 1 else [])


def ordered(table: pd.DataFrame, axis: str) -> list[str]:
    """The values of an axis as text: numbers in ascending order, all else in the table's."""
    names = axes(table)[axis]
    seen = table.drop_duplicates(names)
    if len(names) == 1 and seen[names[0]].dtype.kind in "iuf":
        seen = seen.sort_values(names[0])
    return [placed(cell, names) for cell in seen.to_dict("records")]


def brief(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The table's parameters, status and seconds with the estimates that are shown, without their intervals."""
    wide = found.pivot(index="cell", columns="series", values="value")
    wide = wide[list(dict.fromkeys(found.series))].rename(columns=title)
    shown = table.set_index("cell")[[*varied(table), "status", "seconds"]]
    return shown.map(_short).join(wide.round(2)).reset_index(drop=True)


def failed(table: pd.DataFrame) -> pd.DataFrame:
    """The cells that were not run to their end, with their errors."""
    return table[table.status != "ok"].set_index("cell")[["status", "error"]]


# sentences


def finished(table: pd.DataFrame) -> str:
    """How many cells were run to their end."""
    done = int((table.status == "ok").sum())
    told = f"{done} of {len(table)} cells were run to their end"
    states = table.status[table.status != "ok"].value_counts().to_dict()
    return told + "".join(f"; {n} {state}" for state, n in states.items()) + "."


def largest(changes: pd.DataFrame) -> str:
    """Which difference is the largest, and how many have an interval without 0."""
    if not len(changes):
        return "No two cells differ in one parameter only, other than the initialisation."
    top = changes.loc[changes["mean"].abs().idxmax()]
    clear = int(((changes.low > 0) | (changes.high < 0)).sum())
    known = int(changes.low.notna().sum())
    axis = "" if ", " in top.axis else f"{top.axis} "  # values of an axis of several parameters contain their names
    pairs, n = int(top.pairs), int(top.n)
    found = Interval(*(None if v != v else v for v in (top["mean"], top.low, top.high)), n)
    which = f"Of {len(changes)} differences the largest" if len(changes) > 1 else "The only difference"
    told = (
        f"{which} is that of *{top.series}* from {axis}{top['from']} to {top.to}: {found}, over {pairs} "
        f"pair{'s' * (pairs > 1)} of cells{f' of {n} initialisations' if n < pairs else ''}."
    )
    if known:
        told += (
            f" {clear or 'None'} of the {known} with an interval exclude{'s' * (clear < 2)} 0, uncorrected for their "
            "number."
        )
    return told
