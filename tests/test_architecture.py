"""The tree is the architecture: who may import whom, and what importing costs."""

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ldnn_core", "search", "jobs", "analysis")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}

MAY_IMPORT = {
    "ldnn_core": {"ldnn_core"},
    "search": {"search", "ldnn_core"},
    "analysis": {"analysis", "search.schema", "search.store"},
    "jobs": {"jobs", "search", "analysis", "ldnn_core"},
}
"""Package → what it may import of ours: packages whole, or single modules."""

CORE_ANYWHERE = {"torch", "numpy", "numba", "llvmlite", "safetensors", "filelock"}
CORE_LATE = {
    "ldnn_core.tasks": {"mnist1d", "sklearn", "pyarrow"},
    "ldnn_core.pyhessian_curvature": {"pyhessian"},
    "ldnn_core.algorithms": {"cmaes", "threadpoolctl"},
}
"""Where in the core a package that serves one concept may be imported."""
CORE_AT_THE_TOP = {"ldnn_core.algorithms"}
"""Where it may be imported at module level; everywhere else it is imported late."""

LONGEST_MODULE = 450
LAZY = ("ray", "optuna", "matplotlib")


@dataclass(frozen=True)
class Import:
    module: str
    name: str
    line: int
    is_late: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return f"{MODULES[self.module].relative_to(ROOT)}:{self.line} imports {self.name}"


def only_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def imports_in(module, node, is_late=False):
    """Every import below a node, with the modules that `from package import module` names; not those for types only."""
    for child in ast.iter_child_nodes(node):
        if only_for_types(child):
            continue
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module, alias.name, child.lineno, is_late)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}:{child.lineno} imports relatively"
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            modules = [name for name in names if name in MODULES]
            for name in modules or [child.module]:
                yield Import(module, name, child.lineno, is_late)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports_in(module, child, is_late or inside)


IMPORTS = [
    found for name, path in MODULES.items() for found in imports_in(name, ast.parse(path.read_text(encoding="utf-8")))
]


def is_part_of(name, allowed):
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def test_the_walk_sees_late_imports_and_modules_named_by_from():
    tree = ast.parse(
        "import torch\nfrom search import store\nif TYPE_CHECKING:\n    import optuna\ndef f():\n    import ray.tune\n"
    )
    found = {(one.name, one.is_late) for one in imports_in("search.tune", tree)}
    assert found == {("torch", False), ("search.store", False), ("ray.tune", True)}
    assert len(IMPORTS) > 100


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_of_ours_only_what_it_may(package):
    ours = [one for one in IMPORTS if one.module.partition(".")[0] == package and one.top in PACKAGES]
    assert [str(one) for one in ours if not is_part_of(one.name, MAY_IMPORT[package])] == []


def test_the_core_imports_little():
    def allowed(one):
        if one.top in CORE_ANYWHERE | {"ldnn_core"} | sys.stdlib_module_names:
            return True
        for place, packages in CORE_LATE.items():
            if is_part_of(one.module, {place}) and one.top in packages:
                return one.is_late or place in CORE_AT_THE_TOP
        return False

    core = [one for one in IMPORTS if one.module.startswith("ldnn_core")]
    assert [str(one) for one in core if not allowed(one)] == []


@pytest.mark.parametrize(
    ("library", "homes"), [("ray", {"search.tune", "search.ray_shards"}), ("optuna", {"search.sampling"})]
)
def test_exactly_these_modules_import(library, homes):
    # `from ray.tune.search.optuna import ...` is an import of ray.
    assert {one.module for one in IMPORTS if one.top == library} == homes


def test_no_module_has_a_name_that_says_nothing():
    empty = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [name for name in MODULES if set(name.split(".")) & empty] == []


def test_no_module_is_long():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}
    assert sorted(lengths.values())[len(lengths) // 2] <= 200


def in_fresh_process(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["ldnn_core", "search", "analysis", "jobs.cli", "search.config", "search.recipes"])
def test_importing_is_light(name):
    out = in_fresh_process(f"import sys, json, {name}; print(json.dumps(sorted(sys.modules)))")
    assert set(LAZY) & set(json.loads(out)) == set()


def test_every_module_of_the_core_works_without_ray():
    names = [name for name in MODULES if name.startswith("ldnn_core")]
    code = f"""
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"ray", "optuna", "search", "jobs", "analysis", "pydantic", "pandas"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
for name in {names}:
    importlib.import_module(name)
import torch
from ldnn_core.activations import UsualActivation
from ldnn_core.evaluation import Training, evaluate_arms, fully_connected
from ldnn_core.optimizers import make_optimizer
from ldnn_core.tasks import Mnist1d, cache_folder
data = Mnist1d(samples=1000).load(cache_folder())
how = Training(make_optimizer("adam"), 0.01, 3, 50)
network = fully_connected(data, (8,))
print(evaluate_arms(data, network, {{"relu": UsualActivation("relu")}}, [0], how, root_seed=0)[0].arm)
"""
    assert in_fresh_process(code).strip() == "relu"
