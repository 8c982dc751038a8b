"""What the notebooks share in words: the board of a run, its claims, folded tables, and sentences made from numbers.

Functions that show something return what the notebook goes on with, or nothing. Sentences are text, so that a test can
read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from lotto.lab import index, plots, sources
from lotto.lab.arms import ARMS
from lotto.lab.claims import board as boards
from lotto.lab.claims import figures, judge, runs
from lotto.lab.claims.rules import CLAIMS, STABLE
from lotto.lab.study import Study
from lotto.lab.tables import averaged, by_seed, failures
from lotto.stats import Interval, interval, paired

if TYPE_CHECKING:
    import pandas as pd

CHIPS = {"good": "#d9f0e1", "bad": "#fbdfdc", "open": "#f3ecd8", "plain": "#e8eaee"}
"""Tone of a word (`index.tone`) -> the colour behind it."""


# shown


def say(*sentences: str, listed: bool = False) -> None:
    """Show sentences of Markdown as one paragraph, or as a list; nothing where there are none."""
    from IPython.display import Markdown, display

    if there := [s for s in sentences if s]:
        display(Markdown("\n".join(f"- {s}" for s in there) if listed else " ".join(there)))


def html(text: str) -> None:
    """Show a piece of HTML."""
    from IPython.display import HTML, display

    display(HTML(text))


def fold(table: pd.DataFrame, summary: str, words: bool = False) -> None:
    """Show a table that opens with a click on its summary; it stands open where nothing can be clicked.

    words: cells hold text, which is to wrap, and no numbers.
    """
    cells = table.to_html(border=0, na_rep="-", classes="words" if words else None)
    cells = cells.replace("<td>None</td>", "<td>-</td>")  # in columns of objects, which na_rep does not reach
    cells = re.sub(r">\s+<", "><", cells)  # what indents the source makes up most of a committed table
    html(f"<div><details><summary>{escape(summary)}</summary>{cells}</details></div>")


def arms(study: Study) -> None:
    """Show, folded, what the study's arms are: a row of factors each (`lotto/lab/arms.py`)."""
    import pandas as pd

    fold(
        pd.DataFrame({ARMS[m].title: ARMS[m].factors for m in study.arms}).T,
        f"The {len(study.arms)} arms, each a row of factors",
        words=True,
    )


def board(tables: Mapping[str, Any], study: Study, notebook: str) -> boards.Board:
    """Show the claims of a notebook, what this run estimates of each, and the word of the reference run; return them
    with their numbers.

    Primary claims, or all where there are none; the others, and those that this run has no arms for, are named. tables:
    name -> table, as `claims.judge.judge` takes them.
    """
    classes = _classes(study)
    rows = {r["claim"].split()[0]: r for r in boards.rows(tables, study, classes, notebook)}
    primary = [c.id for c in CLAIMS if c.primary and c.id in rows] or list(rows)
    lines = [
        "".join(
            f'<td style="text-align: left">{cell}</td>'
            for cell in (escape(r["claim"]), index.lines(r["here"]), _chip(r["word"]) + _elsewhere(r))
        )
        for r in map(rows.get, primary)
    ]
    kept = runs.known(study.preset)
    found = "estimates with 95 % intervals" if study.seeds > 2 else "estimates without intervals"
    note = f"This run: {plots.counted(study)}, {found}, so no verdict. {_reference_note(kept, rows, study, tables)}"
    absent = [name for name in rows if rows[name]["here"] == "not run"]
    others = [name for name in rows if name not in (*primary, *absent)]
    note += f" Exploratory, below: {', '.join(others)}." if others else ""
    note += f" Not run here: {', '.join(absent)}." if absent else ""
    head = "".join(f'<th style="text-align: left">{name}</th>' for name in ("claim", "this run", "reference"))
    body, small = "".join(f"<tr>{line}</tr>" for line in lines), 'style="font-size: 12px; margin: 4px 0"'
    html(f"<div><table {small}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p {small}>{note}</p></div>")
    made_of = tables, study, classes, notebook
    return boards.Board(list(rows.values()), boards.numbers(*made_of), boards.comparisons(*made_of))


def claims(tables: Mapping[str, Any], study: Study, notebook: str, shown: boards.Board) -> None:
    """Show every comparison of a notebook's claims as a forest plot, one sentence for each claim, and the whole board,
    folded."""
    import pandas as pd

    judged = judge.judge(tables, study, _classes(study), notebook)
    plots.show(figures.forest(judged, "This run: every comparison with its 95 % interval"))
    say("As measured, the first minus the second:")
    say(boards.sentences(tables, study, _classes(study), notebook))
    fold(
        pd.DataFrame(shown.rows).set_index("claim"),
        "The whole board, with the reference and a second reading of each claim",
        words=True,
    )


# sentences


def recipe(study: Study) -> str:
    """The study's trainings, loops and rounds in numbers, in one line."""
    outer, inner = study.outer, study.inner
    return (
        f"a training: {outer.steps} steps of {outer.batch} at a peak rate of {outer.lr:g}; short loops: {inner.steps} "
        f"steps of {inner.batch}; gentle rate: {inner.lr:g}; step k: {study.rewind}; a round removes "
        f"{100 * study.fraction:g} %"
    )


def means(table: pd.DataFrame, column: str, level: int | None = None, by: str = "method") -> dict[str, Interval]:
    """Title -> mean of a column (`tables.averaged`), with its interval; of one level where one is given.

    `by`: the column whose values are told apart. Several rows of an initialisation are averaged first.
    """
    rows = averaged(table if level is None else table[table.level == level], column)
    return {
        ARMS[name].title if name in ARMS else str(name): interval(group.groupby("seed")[column].mean().tolist())
        for name, group in rows.groupby(by, sort=False)
    }


def ends(
    table: pd.DataFrame,
    column: str,
    level: int | None,
    what: str,
    unit: str = "points",
    digits: int = 1,
    by: str = "method",
) -> str:
    """ "The test accuracy is highest for IMP (98.3 [97.9, 98.7] %) and lowest for noise images (...), of 9 compared.",
    from `means`; ties are named together, and nets that did not train are counted. Empty where nothing was measured."""
    found = means(table, column, level, by)
    rows = table if level is None else table[table.level == level]
    lost = int((rows.state != "trained").sum() if "state" in rows else rows[column].isna().sum())
    which = "nets that did not train" if "state" in rows else "for which there is none"
    without = f" {'With' if column == 'accuracy' and 'state' in rows else 'Without'} {lost} {which}." if lost else ""
    known = {name: f for name, f in found.items() if f.mean is not None}
    if not known:
        return ""
    told = []
    for end in (max, min):
        best = end(known.values(), key=lambda f: f.mean)
        best = best.within(0.0, 100.0) if unit == "%" else best
        names = [name for name, f in known.items() if round(f.mean, digits) == round(best.mean, digits)]
        alone = len(names) == 1 and best.low is not None  # of several with one mean, each has an interval of its own
        value = best.text(digits) if alone else f"{best.mean:.{digits}f}"
        if len(names) == len(known):
            return f"The {what} is {value} {unit}".rstrip() + f" for {_listed(names)}.{without}"
        told.append(f"{_listed(names)} ({value}{f' {unit}' if unit else ''})")
    return f"The {what} is highest for {told[0]} and lowest for {told[1]}, of {len(known)} compared.{without}"


def times(fewer: float, than: str) -> str:
    """ "2.5 times fewer images than IMP", or "1.6 times as many images as IMP" where `fewer` is below 1."""
    return (
        f"{fewer:.1f} times fewer images than {than}"
        if fewer >= 1
        else f"{1 / fewer:.1f} times as many images as {than}"
    )


def beside(table: pd.DataFrame, column: str, arm: str, than: str, level: int, what: str, unit: str = "points") -> str:
    """ "The barrier of distilled minus that of IMP is 11.7 [3.7, 19.7] points over 10 initialisations: the interval
    excludes 0."; empty where an arm is not there. Paired by initialisation."""
    both = [by_seed(table, m, 0 if ARMS[m].dense else level, column) for m in (arm, than)]
    found = paired(*both)
    if found.mean is None:
        return ""
    how = (
        "too few for an interval"
        if found.low is None
        else f"the interval {'contains' if found.low <= 0 <= found.high else 'excludes'} 0"
    )
    side = f"The {what} of *{ARMS[arm].title}* minus that of *{ARMS[than].title}* is"
    every = table[table.method == arm].seed.nunique()
    trained = f" (of {every}) where both trained" if found.n < every else ""
    return f"{side} {found.text()} {unit} over {found.n} initialisation{'s' * (found.n > 1)}{trained}: {how}."


def stable(table: pd.DataFrame, study: Study, level: int, column: str = "barrier") -> str:
    """Which pruned arms have a mean barrier below the 2-point rule at a level, of how many, and which dense nets have
    one; by `column`, which is `barrier` or `interpolated`."""
    at = {m: 0 if ARMS[m].dense else level for m in study.arms}
    found = {m: interval(list(by_seed(table, m, at[m], column).values())) for m in study.arms}
    below = {m: ARMS[m].title for m, f in found.items() if f.mean is not None and f.mean < STABLE}
    for m in below:
        lost, every = failures(table, m, at[m])
        below[m] += f" ({every - lost} of {every} trained)" if lost else ""
    pruned, dense = ([told for m, told in below.items() if ARMS[m].dense == is_dense] for is_dense in (False, True))
    of, has = sum(not ARMS[m].dense for m in found), "has" if len(pruned) == 1 else "have"
    where = f"At {study.sparse(level)} sparsity"
    where = where if column == "barrier" else f"With {column} statistics"
    return (
        f"{where} {len(pruned)} of {of} pruned arms {has} a mean barrier below {STABLE:g} points"
        f"{f': {_listed(pruned)}' if pruned else ''}"
        + (f"; so has, of the dense networks, {_listed(dense)}." if dense else ".")
    )


def tour(barrier: pd.DataFrame, study: Study, level: int) -> list[str]:
    """A sentence for each arm of a tour: its mean barrier (at `level` rounds, where it prunes), whether that is stable
    by the 2-point rule, and whether it is below the dense network's."""
    found = {
        m: interval(list(by_seed(barrier, m, 0 if ARMS[m].dense else level, "barrier").values())) for m in study.arms
    }
    high, sentences = found["dense"].mean if "dense" in found else None, []
    for m, mean in ((m, f.mean) for m, f in found.items()):
        who = plots.named(study, m, level)
        who = "The dense network" if m == "dense" else who
        if mean is None:
            sentences.append(f"*{who}*: no two trainings to walk between.")
            continue
        word = f"{'stable' if mean < STABLE else 'unstable'} by the {STABLE:g}-point rule"
        side = (
            "" if m == "dense" or high is None else f", {'below' if mean < high else 'not below'} the dense network's"
        )
        sentences.append(f"*{who}*: a barrier of {mean:.1f} points{side}; {word}.")
    return sentences


def spread(kept: runs.Reference, study: Study, level: int) -> list[str]:
    """A sentence for each arm of a study that the reference run has too: mean, lowest and highest of its barriers there
    (`Reference.values`), after `level` rounds where it prunes."""
    there, sentences = kept.values("barrier", level) if "barrier" in kept.tables else {}, []
    for m in (m for m in study.arms if m in there):
        values = there[m].values()
        who = "*dense*" if m == "dense" else f"*{ARMS[m].title}*, {kept.study.sparse(level)} sparse"
        over = f"over {len(values)} initialisation{'s' * (len(values) > 1)}"
        mean = interval(list(values)).mean
        sentences.append(f"{who}: {mean:.1f} points on average, {min(values):.1f} to {max(values):.1f} {over}.")
    return sentences


# pieces


def _listed(names: Sequence[str]) -> str:
    """Names in italics, for they may hold commas: "*dense, from step k* and *IMP*"."""
    *others, last = (f"*{name}*" for name in names)
    return f"{', '.join(others)} and {last}" if others else last


def _classes(study: Study) -> int:
    return len(sources.load(study.data).classes)


def _chip(word: str) -> str:
    colour = CHIPS[index.tone(word)]
    style = f"background-color: {colour}; padding: 1px 8px; border-radius: 8px; white-space: nowrap"
    return f'<span style="{style}">{escape(word)}</span>'


def _reference_note(kept: runs.Reference | None, rows: Mapping[str, Any], study: Study, tables: Mapping) -> str:
    """What the reference run beside a board is, and how its barriers differ from those of the board."""
    if not kept:
        return "No reference run of this preset is kept yet."
    if all(r["reference"] == "not run" for r in rows.values()):
        return "The reference run has not come to these claims yet."
    planned, most = kept.planned, max((b["children"] for b in kept.facts["batches"].values() if b["done"]), default=0)
    note = f"Reference: {(done := kept.study.seeds)} others{f', of {planned} planned' * (done != planned)}."
    if "barrier" in tables and most > study.children:
        mine, theirs = (n * (n - 1) // 2 for n in (study.children, most))
        note += (
            f" Its barriers are means over up to {theirs} pairs of children and vary less than those here, over {mine}."
        )
    return note


def _elsewhere(row: Mapping[str, str]) -> str:
    """The sparsity of the reference's word, where this run's estimate is of another."""
    here, there = (re.search(r"\([^()]*% sparse\)$", row[n]) for n in ("here", "reference"))
    return f" {there[0]}" if here and there and here[0] != there[0] else ""
