"""Which module may import which, by reading the sources and by trying it; and that no file and no function needs
scrolling."""

import ast
import graphlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOTTO = Path(__file__).resolve().parents[1] / "lotto"
COMMANDS = {"lotto.run", "lotto.bench"}
"""The command line: it stands above both wings."""
WHAT = {"study", "groups", "presets", "arms", "describe"}
WHERE = {"store", "product", "parallel", "device", "progress", "sources", "downloads", "tables", "check", "plots"}
ROOMS = ("sets", "tickets", "stability", "sharpness", "sparsity", "causes")
"""One a notebook, in their order."""


def name_of(file):
    return ".".join(file.relative_to(LOTTO.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(file): file for file in sorted(LOTTO.rglob("*.py"))}
TREES = {name: ast.parse(file.read_text()) for name, file in FILES.items()}
CORE = [name for name in FILES if not name.startswith("lotto.lab") and name not in COMMANDS]


def for_types_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(node, inside=True):
    """Full names of all that is imported below `node`, but for what is imported for annotations; `inside` functions
    too, or not."""
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            found |= {a.name for a in child.names}
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{ast.unparse(child)}: imports are absolute"
            found |= {child.module, *(f"{child.module}.{a.name}" for a in child.names)}
        elif not for_types_only(child) and (inside or not isinstance(child, ast.FunctionDef | ast.Lambda)):
            found |= imports(child, inside)
    return found


def within(names, package):
    return {n for n in names if n == package or n.startswith(f"{package}.")}


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_no_lab_no_tables_and_no_plots(module):
    found = imports(TREES[module])
    assert {n for package in ("lotto.lab", "pandas", "plotly", "os.environ") for n in within(found, package)} == set()
    environment = [
        n for n in ast.walk(TREES[module]) if isinstance(n, ast.Attribute) and n.attr in ("environ", "getenv")
    ]
    assert environment == []


BLOCKED = """
import sys
for name in ("lotto.lab", "pandas", "plotly"):
    sys.modules[name] = None
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
print("whole")
"""


@pytest.mark.slow
def test_the_core_is_imported_where_there_is_neither_lab_nor_pandas_nor_plotly():
    out = subprocess.run(
        [sys.executable, "-c", BLOCKED, *CORE], cwd=LOTTO.parent, capture_output=True, text=True, timeout=300
    )
    assert out.stdout == "whole\n", out.stderr[-2000:]


def test_no_circle():
    arrows = {name: (imports(tree, inside=False) & FILES.keys()) - {name} for name, tree in TREES.items()}
    try:
        list(graphlib.TopologicalSorter(arrows).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_stands_on_what_and_where_and_the_rooms_before_it(room):
    below = WHAT | WHERE | set(ROOMS[: ROOMS.index(room) + 1])
    for module in within(FILES, f"lotto.lab.{room}"):
        taken = {n.split(".")[2] for n in within(imports(TREES[module]), "lotto.lab") if n != "lotto.lab"}
        assert taken <= below, module


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_read_from_products_to_tables_to_figures(room):
    parts = ("products", "tables", "figures")
    for k, part in enumerate(parts):
        if tree := TREES.get(f"lotto.lab.{room}.{part}"):
            above = [f"lotto.lab.{room}.{later}" for later in parts[k + 1 :]]
            assert not {n for a in above for n in within(imports(tree), a)}, part


def test_no_file_above_300_lines():
    long = {name: n for name, file in FILES.items() if (n := len(file.read_text().splitlines())) > 300}
    assert long == {}


def _lines(function):
    """Lines of a function without its docstring."""
    first, *_ = function.body
    told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return function.end_lineno - function.lineno + 1 - (first.end_lineno - first.lineno + 1 if told else 0)


def test_no_function_above_60_lines():
    functions = [
        (m, f)
        for m, tree in TREES.items()
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {f"{m}.{f.name}": n for m, f in functions if (n := _lines(f)) > 60}
    assert long == {}


@pytest.mark.slow
def test_how_long_an_import_takes(capsys):
    """Printed, not judged: it is the machine's time too. The goal is 0.1 s for `import lotto`."""
    took = {}
    for what in ("pass", "import lotto", "import torch", "import lotto.train"):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", what], cwd=LOTTO.parent, check=True)
        took[what] = time.perf_counter() - began
    with capsys.disabled():
        told = ", ".join(f"{what} {took[what] - took['pass']:.2f} s" for what in took if what != "pass")
        print(f"\nbeyond Python's own start: {told}")
