"""How long each explorer takes to redraw, and how large its figure in a page is: `python -m lotto.lab.explore.redraw`.

Everything comes from the store (missing products are computed first, as in the notebooks). A redraw is the kernel's
work between a moved control and the message to the page.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import lotto
from lotto.lab.explore import controls, images, paths, planes, spectra, tickets, whatif
from lotto.lab.sharpness.tables import curvatures, profiles
from lotto.lab.stability.tables import barriers
from lotto.lab.stability.tables import paths as walked
from lotto.lab.study import Study
from lotto.lab.tickets.tables import accuracies


def explorers(study: Study) -> dict[str, Callable[[], Any]]:
    """Every explorer of the notebooks, as they call it."""
    last = study.but(levels=study.levels[-1:])  # what notebook 04 looks at
    return {
        "images": lambda: images.explorer(study),
        "tickets": lambda: tickets.explorer(study, accuracies(study), barriers(study)),
        "paths": lambda: paths.explorer(study, walked(study)),
        "planes": lambda: planes.explorer(last),
        "spectra": lambda: spectra.explorer(last, curvatures(last), profiles(last)),
        "what if": lambda: whatif.explorer(study),
    }


def redraws(box: Any) -> list[float]:
    """CPU seconds of this process that each value of each control takes, the others unchanged: other load on the
    machine does not count. Measured on a second pass, when everything has been read."""
    moved = [c for c in box.children if hasattr(c, "options")]
    for _ in range(2):
        found = []
        for control in moved:
            first = control.value
            for value in [v for _, v in control.options if v != first] + [first]:
                began = time.process_time()
                control.value = value
                found.append(time.process_time() - began)
    return found


def main() -> None:
    """Print one line per explorer."""
    for name, make in explorers(lotto.study("digits")).items():
        os.environ.pop("LOTTO_HEADLESS", None)
        began = time.process_time()
        box = make()
        spent, found = time.process_time() - began, redraws(box)
        os.environ["LOTTO_HEADLESS"] = "1"
        with mock.patch.object(controls, "show") as shown:
            make()
        kilobytes = len(shown.call_args.args[0].to_json()) / 1000
        middle, worst = (1000 * f(found) for f in (statistics.median, max))
        print(
            f"{name}: {len(found)} redraws, median {middle:.0f} ms, worst {worst:.0f} ms; "
            f"{spent:.1f} s to start; {kilobytes:.0f} kB in a page"
        )


if __name__ == "__main__":
    main()
