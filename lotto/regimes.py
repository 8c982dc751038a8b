"""Under which conditions is a net stable? Sweeps over the inner recipe, the outer recipe and the step that training starts anew from.

Each sweep is a table of the study's own measures (`stability.swept`) with columns for what was varied.
"""

from __future__ import annotations

from lotto.config import Study
from lotto.distill.judge import judgements
from lotto.lab.arms import ARMS
from lotto.stability import swept


def inner(study: Study):
    """Table over the inner recipe: a row a (method, lr, steps, level, seed), with the columns of `stability.measured`.

    Every method of `study.map_methods`, whose inner loops are short and gentle, at every peak learning rate of `map_lrs` and number
    of steps of `map_steps`.
    """
    cells = {
        (lr, steps): study.but(inner_lr=lr, inner_steps=steps, methods=study.map_methods)
        for lr in study.map_lrs
        for steps in study.map_steps
    }
    return swept(cells, ("lr", "steps"))


def outer(study: Study):
    """Table over the outer recipe: a row a (method, lr, steps, level, seed) for the dense net."""
    cells = {
        (lr, steps): study.but(lr=lr, steps=steps, rewind=min(study.rewind, steps), methods=("dense",))
        for lr in study.outer_lrs
        for steps in study.outer_steps
    }
    return swept(cells, ("lr", "steps"))


def sets(study: Study):
    """Table of sets and the masks found with them: a row a (method, level, seed), with `worth`, the accuracy of fresh nets trained on the
    set (`judge.judgements`), and `state`, `accuracy`, `barrier` of the tickets found with it at the study's last level.

    `method`: the kind of set, over `study.judge_kinds`; `level`: images a class, over `study.ipcs`. All in short loops at the outer rate.
    """
    worth = judgements(study).rename(columns={"accuracy": "worth"})[["method", "level", "seed", "worth"]]
    cells = {(i,): study.but(ipc=i, methods=study.judge_kinds, levels=study.levels[-1:]) for i in study.ipcs}
    table = swept(cells, ("ipc",)).drop(columns="level").rename(columns={"ipc": "level"})
    return table.merge(worth, on=["method", "level", "seed"])


def over_time(study: Study):
    """Table over the step k from which nets train anew: a row a (method, k, level, seed); k = 0 is the initialisation.

    The rewound methods of `study.rewind_methods` at each k of `study.rewinds`, and at 0 the same methods without rewinding, under whose
    names all rows stand.
    """
    cells = {(0,): study.but(methods=tuple(map(unrewound, study.rewind_methods)))}
    cells |= {(k,): study.but(rewind=k, methods=study.rewind_methods) for k in study.rewinds if k <= study.steps}
    table = swept(cells, ("k",))
    table["method"] = table.method.map(unrewound)
    return table


def unrewound(method: str) -> str:
    """The method that starts at the initialisation and does otherwise the same as a rewound one."""
    return method.replace("-rewound", "") if ARMS[method].from_k else method


def stable_from(table, limit: float = 2.0):
    """The first k of `over_time` from which on the barrier stays below `limit` points: a row a (method, level, seed); None where none does.

    A net that did not train is not stable.
    """
    import pandas as pd

    rows = []
    for (method, level, seed), group in table.groupby(["method", "level", "seed"], sort=False):
        group = group.sort_values("k", ascending=False)
        stable = (group.state == "trained") & (group.barrier < limit)
        kept = group.k[stable.cumprod().astype(bool)]
        rows.append(dict(method=method, level=level, seed=seed, k=int(kept.min()) if len(kept) else None))
    return pd.DataFrame(rows)
