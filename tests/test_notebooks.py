"""What the committed notebooks must be; that they run is nbval's part."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from lotto.lab import committed, notebooks
from lotto.lab.groups import PLACES
from lotto.lab.study import Study
from lotto.lab.tickets.tables import accuracies

BOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
books = pytest.mark.parametrize("book", BOOKS, ids=[b.stem for b in BOOKS])
STUDIES = [b for b in BOOKS if "01" <= b.stem[:2] <= "06"]
"""Those that judge claims; the tour and the comparison of runs have a shorter form."""
studies = pytest.mark.parametrize("book", STUDIES, ids=[b.stem for b in STUDIES])


def code(book):
    return [c for c in nbformat.read(book, 4).cells if c.cell_type == "code"]


def test_there_are_notebooks():
    assert [b.stem for b in BOOKS] == [
        "00_tour",
        "01_distillation",
        "02_distilled_imp",
        "03_stability",
        "04_sharpness",
        "05_high_sparsity",
        "06_what_makes_it_stable",
        "07_compare",
    ]
    assert notebooks.choose(None, None) == [b for b in BOOKS if b.stem != notebooks.COMPARE]
    assert notebooks.choose(None, None, every=True) == BOOKS


@books
def test_size_and_metadata(book):
    nb = nbformat.read(book, 4)
    assert book.stat().st_size <= 300_000
    assert (
        set(nb.metadata) == {"kernelspec", "language_info"}
        and nb.metadata.kernelspec.name == "python3"
        and nb.nbformat_minor >= 5
    )
    assert all(set(c.metadata) <= {"tags", "jupyter"} for c in nb.cells)


@books
def test_written_as_it_is_committed_a_figure_a_line_and_nothing_lost(book):
    written = committed.text(nbformat.read(book, 4))
    assert written == book.read_text()
    assert json.loads(written) == json.loads(nbformat.writes(nbformat.read(book, 4)))


@books
def test_committed_with_outputs_in_order_without_errors_or_timings(book):
    cells = code(book)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    outputs = [o for c in cells for o in c.outputs]
    assert outputs and not [
        o for o in outputs if o.output_type == "error" or (o.output_type == "stream" and o.name == "stderr")
    ]
    text = json.dumps([{k: v for k, v in o.get("data", {}).items() if k != "image/png"} for o in outputs]) + "".join(
        o.get("text", "") for o in outputs
    )
    assert not re.search(r"\d\s*(seconds|it/s|s/it)|widget-view|/home/|/root/|/tmp/", text)


@books
def test_every_figure_has_its_still_picture(book):
    figures = [o.data for c in code(book) for o in c.outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(figures) >= 3 and all("image/png" in f for f in figures)


@books
def test_parameters_are_annotated_commented_literals(book):
    cell = [c for c in code(book) if "parameters" in c.metadata.get("tags", [])]
    assert len(cell) == 1
    for line in cell[0].source.splitlines():
        statement = ast.parse(line).body[0]
        assert isinstance(statement, ast.AnnAssign) and "#" in line, line
        ast.literal_eval(statement.value)
    assert len([n for n in notebooks.known_parameters(book) if n != "more"]) <= 10


@studies
def test_the_study_knows_the_parameters(book):
    *headline, more = notebooks.known_parameters(book)
    assert more == "more" and set(headline) <= set(Study.model_fields) | set(PLACES)


@books
def test_every_parameter_is_used(book):
    cells = code(book)
    rest = "\n".join(c.source for c in cells if "parameters" not in c.metadata.get("tags", []))
    for name in notebooks.known_parameters(book):
        assert re.search(rf"\b{name}\b", rest), name


@books
def test_cells_are_thin_and_the_end_mark_is_there(book):
    cells = code(book)
    for c in cells:
        tree = ast.parse(c.source)
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        assert len(c.source.splitlines()) <= 12 and max(map(len, c.source.splitlines())) <= 110, c.source
    assert f'notebooks.finish("{book.stem}"' in cells[-1].source


@books
def test_question_parameters_setup_answer(book):
    question, parameters, setup, answer = nbformat.read(book, 4).cells[:4]
    assert re.match(r"# \d\d · .+\n\n\*\*Question\.\*\*", question.source)
    assert parameters.metadata.get("tags") == ["parameters"]
    assert setup.metadata.get("jupyter") == {"source_hidden": True}
    figures = sum("application/vnd.plotly.v1+json" in o.get("data", {}) for o in answer.outputs)
    assert figures == 1


@studies
def test_a_study_is_checked_and_answers_by_its_board(book):
    *_, setup, answer = nbformat.read(book, 4).cells[:4]
    assert ".check()" in setup.source and "answers.board(" in answer.source


FORM = ("**Question.**", "## Method", "$$", "## Explore", "## Checks", "## Break it yourself", "## What to try next")


def text_of(book):
    return "\n".join(c.source for c in nbformat.read(book, 4).cells if c.cell_type == "markdown")


@pytest.mark.parametrize("book", BOOKS[1:], ids=[b.stem for b in BOOKS[1:]])
def test_every_form_but_the_tours_has_its_parts(book):
    for part in FORM:
        assert part in text_of(book), part


@studies
def test_a_study_names_the_papers_claim_and_its_own(book):
    for part in ("**The paper's claim", "Source:", "## Claims", "## The reference run"):
        assert part in text_of(book), part


@books
def test_checked_cells_print_no_measured_digits(book):
    for c in code(book):
        if "nbval-check-output" in c.metadata.get("tags", []):
            printed = "".join(o.get("text", "") for o in c.outputs)
            assert printed and not re.search(r"\d+\.\d{2,}", printed)


LOST = {
    "nothing learns": dict(lr=1e-9, inner_lr=1e-9, map_lrs=[1e-9], outer_lrs=[1e-9]),
    "all diverge": dict(lr=100.0, inner_lr=100.0, map_lrs=[100.0], outer_lrs=[100.0]),
    "no weight is left": dict(levels=[2, 12], fraction=0.6),
}


@pytest.mark.slow
@pytest.mark.parametrize("given", LOST.values(), ids=LOST)
@pytest.mark.parametrize("book", BOOKS[:-1], ids=[b.stem for b in BOOKS[:-1]])
def test_it_runs_to_its_end_where_no_ticket_trains(book, given, tiny_parameters):
    """Curves of no net had no columns, no measure comes nearest where none is known, and the dead keep no norms."""
    told = parameterize_notebook(load_notebook_node(str(book)), {"more": tiny_parameters | given})
    names = {"__name__": "__main__"}
    for cell in told.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, book.name, "exec"), names)
    found = accuracies(names["study"])
    assert "trained" not in set(found[found.level == found.level.max()].state)
