"""Whether a study can be run here: told before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from lotto import masks, nets, reach
from lotto.config import ConfigError, Net
from lotto.data import DataError, RealData
from lotto.lab import downloads, sources
from lotto.lab.arms import ARMS
from lotto.lab.claims.rules import REGIMES
from lotto.lab.sets.products import own
from lotto.lab.study import Study
from lotto.lab.tickets.products import network
from lotto.tickets import unreachable_told


def check(study: Study) -> Study:
    """Whether a study can be run here: its initialisations are not those kept for the reference run, some arm prunes,
    its data are there and whole, the net and the distilling net fit them, every weight can be reached, and classes hold
    enough images. ConfigError or DataError says what does not; nothing is computed."""
    if kept := REGIMES.get(study.preset):
        last = kept.first_seed + kept.seeds
        if study.first_seed < last and kept.first_seed < study.first_seed + study.seeds:
            raise ConfigError(
                f"first_seed = {study.first_seed} with seeds = {study.seeds}: initialisations {kept.first_seed} to "
                f"{last - 1} are the reference run's, and a run beside itself would say nothing; end before "
                f"{kept.first_seed}, or give first_seed = {last} or more"
            )
    if all(ARMS[m].dense for m in study.arms):
        raise ConfigError(
            f"methods = {list(study.methods)}: dense networks alone, of which nothing is pruned; add an arm that "
            "prunes, such as 'imp' or 'distilled'"
        )
    downloads.check_files(study.data)
    real = sources.load(study.data)
    net = network(study.setup(0))
    if lost := reach.unreachable(net, real.shape):
        raise ConfigError(
            f"net = {study.net.name!r} at {real.shape[-1]} pixels: "
            f"{unreachable_told(lost, masks.size(masks.ones(net)))}. A sparsity would count what was never in use: "
            "take larger images, or a net that halves them less often"
        )
    _enough(real, "ipc", study.distill.ipc, study.methods, study.distill.factor)
    if "own" in study.arms:
        for seed in study.initialisations:
            own(study.images("own", seed).file, real)
    match = Net(name="convnet", width=study.distill.width, depth=study.distill.depth, norm="instance")
    firsts = [study.ticket(m, 1, 0).rounds[0] for m in study.arms if not ARMS[m].dense]
    if any(r.images and r.images.distill for r in firsts):
        nets.build(match, real.shape, len(real.classes), 0)
    return study


def check_judged(study: Study) -> Study:
    """Whether the sets that are to be judged can be made: classes hold enough images. DataError says what they hold."""
    real = sources.load(study.data)
    _enough(real, "ipcs", max(study.judge.ipcs), study.judge.kinds, study.distill.factor)
    return study


def _enough(real: RealData, name: str, ipc: int, kinds: Sequence[str], factor: int) -> None:
    fewest = int(real.train.labels.bincount(minlength=len(real.classes)).min())
    parts = max(4 if "patches" in kinds else 1, factor**2)  # what one stored image holds
    if fewest == 0:
        raise DataError("a class has no training image left; give more of it, or a smaller held_out")
    if ipc * parts > fewest:
        each = f", and one stored holds {parts}" if parts > 1 else ""
        raise DataError(
            f"{name} = {ipc}: the smallest class has {fewest} training images{each}; give at most {fewest // parts}"
        )
