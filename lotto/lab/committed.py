"""Executing the committed notebooks again, in place."""

from __future__ import annotations

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
        NotebookClient(
            nb, timeout=None, kernel_name="python3", store_widget_state=False, resources=where, config=Config(KERNEL)
        ).execute()
    nbformat.write(strip(nb), notebook)


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
