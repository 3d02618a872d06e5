"""The function's package, as ``sam build`` has it made: what is in it, for which processor, and how large."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.deploy.templates import ROOT

ELF_MACHINES = {"arm64": 0xB7, "x86_64": 0x3E}
MOST_BYTES = 16_000_000
"""Measured: 13.9 MB, with bytecode for Python 3.13. Lambda takes 50 MB directly, and fetches it at every cold start."""


@pytest.fixture(scope="module", params=ELF_MACHINES)
def processor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def package(processor: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the recipe as SAM does: in the project's root, with the target's name and ARTIFACTS_DIR."""
    if shutil.which("make") is None:
        missing("no make")
    folder = tmp_path_factory.mktemp(processor)
    made = subprocess.run(
        ["make", "--makefile", f"sam/{processor}/Makefile", "build-SyncFunction", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        env={**os.environ, "ARTIFACTS_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode and "No matching distribution found" in made.stderr:
        missing("no package index in reach")
    assert made.returncode == 0, made.stderr
    return folder


def test_it_holds_the_program_without_what_serves_people_at_a_terminal(package: Path) -> None:
    ours = {
        path.relative_to(package).as_posix() for name in ("handler", "syncer") for path in package.glob(f"{name}/**/*")
    }
    there = {path.relative_to(ROOT).as_posix() for name in ("handler", "syncer") for path in ROOT.glob(f"{name}/*.py")}
    recipe = (ROOT / "sam" / "package.mk").read_text().replace("\\\n", " ")
    left_out = {f"syncer/{name}" for name in recipe.split("FOR_PEOPLE := ")[1].split("\n")[0].split()}
    assert "syncer/main.py" in left_out
    assert {path for path in ours if "__pycache__" not in path} == there - left_out


def test_every_module_that_a_tick_may_import_is_in_it(package: Path) -> None:
    """By what the modules say, not by what one run happened to import."""
    missing = []
    for path in sorted(package.glob("handler/*.py")) + sorted(package.glob("syncer/*.py")):
        for module in _imported(ast.parse(path.read_text())):
            top, _, rest = module.partition(".")
            if top in ("handler", "syncer") and rest and not (package / f"{module.replace('.', '/')}.py").exists():
                missing.append(f"{path.name}: {module}")
    assert missing == []


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module in ("handler", "syncer"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_it_holds_the_pinned_requirements_and_no_other(package: Path) -> None:
    pins = set(re.findall(r"(?m)^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text()))
    there = {tuple(path.stem.split("-", 1)) for path in package.glob("*.dist-info")}
    assert {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in there} == pins


def test_nothing_in_it_comes_from_elsewhere_in_the_project(package: Path) -> None:
    assert {path.name for path in package.iterdir()} & {path.name for path in ROOT.iterdir()} == {"handler", "syncer"}


def test_what_is_compiled_is_compiled_for_its_processor(package: Path, processor: str) -> None:
    libraries = list(package.rglob("*.so"))
    assert libraries
    for library in libraries:
        header = library.read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        assert int.from_bytes(header[18:20], "little") == ELF_MACHINES[processor], library.name


def test_botocore_knows_the_two_services_that_are_used(package: Path) -> None:
    assert {path.name for path in (package / "botocore/data").iterdir() if path.is_dir()} == {
        "dynamodb",
        "secretsmanager",
    }


def test_python_finds_bytecode_that_an_upload_does_not_make_stale(package: Path) -> None:
    if not has_python_of_lambda():
        pytest.skip("no Python 3.13 to compile with; where these tests run on 3.13, there is")
    compiled = sorted((package / "handler").rglob("*.cpython-313.pyc"))
    assert len(compiled) == len(list((package / "handler").rglob("*.py")))
    # PEP 552: bit 0 says that the source's hash counts, not its time; bit 1 that nobody looks at it.
    assert {int.from_bytes(path.read_bytes()[4:8], "little") for path in compiled} == {0b01}


def has_python_of_lambda() -> bool:
    candidates = ("python3.13", sys.executable)
    question = "import sys; sys.exit(sys.version_info[:2] != (3, 13))"
    return any(
        shutil.which(python) and subprocess.run([python, "-c", question], capture_output=True).returncode == 0
        for python in candidates
    )


def test_it_is_small(package: Path, tmp_path: Path) -> None:
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in package.rglob("*"):
            file.write(path, path.relative_to(package))
    assert archive.stat().st_size < MOST_BYTES
