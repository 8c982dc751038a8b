"""Executing the committed notebooks again, in place."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from lotto.lab.notebooks import KERNEL, NOTEBOOKS, kernel_environment


def refresh(notebook: Path) -> None:
    """Execute a committed notebook in place, at its own parameters, and strip what would differ at every run."""
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    nb = nbformat.read(notebook, 4)
    where = {"metadata": {"path": str(NOTEBOOKS)}}
    with kernel_environment():
        # a stream in one piece, wherever the kernel flushed it
        how = dict(timeout=None, kernel_name="python3", store_widget_state=False, coalesce_streams=True)
        NotebookClient(nb, **how, resources=where, config=Config(KERNEL)).execute()
    notebook.write_text(text(strip(nb)))


def text(nb: Any) -> str:
    """A notebook as nbformat writes it, but each figure on one line: a line for each of its numbers, far indented,
    would take more room than the numbers."""
    import nbformat

    nb, figures = copy.deepcopy(nb), {}
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            for kind in [k for k in output.get("data", {}) if k.startswith("application/vnd.plotly")]:
                name = f"figure {len(figures)} of this notebook"
                figures[json.dumps(name)] = json.dumps(output.data[kind], ensure_ascii=False, sort_keys=True)
                output.data[kind] = name
    written = nbformat.writes(nb) + "\n"
    for name, figure in figures.items():
        written = written.replace(name, figure, 1)
    return written


def strip(nb: Any) -> Any:
    """Drop widget state, timings and what papermill adds; keep outputs and ids."""
    nb.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in nb.cells:
        cell.metadata = {
            k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")
        }  # jupyter: whether the source is folded
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]
    return nb
