"""README and program say the same: what a user meets and the README does not name fails here, and the reverse."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from syncer import config, model
from syncer.dynamodb_records import UID_OPTIONAL, WATERMARK_OPTIONAL, fail_item, holder_item, watermark_item
from syncer.main import cli
from syncer.model import FailRecord, MessageKey, Outcome, Watermark

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "syncer").rglob("*.py"))
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in ("build", "dist") for part in page.relative_to(ROOT).parts)
)
GUIDES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which may speak of what is gone

FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\n]+\]\((?!https?://)([^)\s]*)\)")
FILE_NAME = re.compile(r"(?:[\w.-]+/)+(?:[\w.-]+)?|[\w.-]+\.(?:py|md|toml|txt|in|yaml)|\.env\.example|Makefile")
EVENT_CALLS = {"log_event", "log_item", "_log"}
"""What takes the name of an event as its third argument."""


def section(title: str) -> str:
    """Return what the README has under a heading, down to the next one of its level or above."""
    level = len(title) - len(title.lstrip("#"))
    rest = README.split(f"\n{title}\n", 1)[1]
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(name: str, title: str) -> list[list[str]]:
    """Return the cells of the table rows under a heading of the README that begin with ``name``."""
    found = [line for line in section(title).splitlines() if line.startswith(f"| {name} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found]


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command that does something, with the words by which it is called."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


def code_of(page: Path) -> list[str]:
    """Return the pieces of a page that are set as code, line by line."""
    text = page.read_text(encoding="utf-8")
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return inline + [line for block in FENCE.findall(text) for line in block.splitlines()[1:-1]]


def slugs(page: Path) -> set[str]:
    """Return the anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# -- what the program has, the README has


@pytest.mark.parametrize("setting", config.SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_is_listed_once_with_its_default(setting: config.Setting) -> None:
    shown = f"`{setting.default}`" if setting.default else "required" if setting.required else ""
    assert [row[1] for row in rows(f"`{setting.name}`", "### Settings")] == [shown]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_is_listed_with_its_options(path: tuple[str, ...]) -> None:
    (row,) = rows(f"`syncer {' '.join(path)}`", "### Commands")
    options = [p.opts[-1] for p in COMMANDS[path].params if isinstance(p, click.Option)]
    assert [option for option in options if option not in row[1]] == []


@pytest.mark.parametrize("name", [name for name in vars(model) if name.startswith("EXIT_")])
def test_an_exit_code_is_explained(name: str) -> None:
    assert len(rows(str(getattr(model, name)), "### Commands")) == 1


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_is_explained(outcome: Outcome) -> None:
    ((_, meaning),) = rows("`outcome`", "### Log")
    assert f"`{outcome}`" in meaning


def test_every_make_target_is_listed() -> None:
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    assert [target for target in targets if not rows(f"`make {target}`", "## Development") and target != "help"] == []
    assert "make help" in README


def test_every_attribute_of_a_record_is_explained() -> None:
    key = MessageKey(1, 1)
    failed = FailRecord(key, "", 1, 0.0, 0.0)
    attributes = {
        *WATERMARK_OPTIONAL,
        *watermark_item(Watermark()),
        *("lease_owner", "lease_until", "generation", "revision", "updated_at"),
        *UID_OPTIONAL,
        *("status", "identity"),
        *fail_item(failed, 0),
        *holder_item(key, 0.0),
    }
    assert sorted(name for name in attributes if f"`{name}`" not in section("### Records")) == []


# -- log lines


def logged(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """Yield the events that a module logs, with the names of their own fields."""
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(scope):
            if isinstance(node, ast.Dict):
                pairs = [(k, v) for k, v in zip(node.keys, node.values, strict=True) if _text(k) == "event"]
                yield from ((text, set()) for _, v in pairs if (text := _text(v)))
            if isinstance(node, ast.Call) and _name(node.func) in EVENT_CALLS and len(node.args) > 2:
                fields = {word.arg for word in node.keywords if word.arg}
                yield from ((event, fields) for event in events_in(node.args[2], scope))


def events_in(name: ast.expr, scope: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the events that an expression can be; a parameter is its callers' to name."""
    if isinstance(name, ast.Name):
        if name.id in {argument.arg for argument in scope.args.args}:
            return []
        assigned = [n.value for n in ast.walk(scope) if isinstance(n, ast.Assign) and _name(n.targets[0]) == name.id]
        found = [event for value in assigned for event in events_in(value, scope)]
    elif isinstance(name, ast.IfExp):
        found = [*events_in(name.body, scope), *events_in(name.orelse, scope)]
    else:
        found = [text for text in [_text(name)] if text]
    assert found, f"line {name.lineno}: nobody can tell which event this logs"
    return found


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


LOGGED = [entry for source in SOURCES for entry in logged(ast.parse(source.read_text(encoding="utf-8")))]


def test_the_events_were_found() -> None:
    assert {event for event, _ in LOGGED} >= {
        "cycle_finished",
        "source_unavailable",
        "message_failed",
        "library_warning",
    }


@pytest.mark.parametrize("event", sorted({event for event, _ in LOGGED}))
def test_an_event_is_listed_with_its_fields(event: str) -> None:
    (row,) = (cells for cells in rows(f"`{event}`", "### Log") if len(cells) == 3)
    fields = set().union(*(fields for name, fields in LOGGED if name == event))
    # Fields that many events share are explained once, below the table.
    shared = re.findall(r"`(\w+)`", section("### Log").split("Message fields are", 1)[1])
    assert sorted(field for field in fields if f"`{field}`" not in row[2] and field not in shared) == []


# -- what the README names, there is


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_names_exist(page: Path) -> None:
    wrong = []
    for code in code_of(page):
        said = re.sub(r"docker compose (?:exec|run --rm) syncer (?:syncer )?", "syncer ", code)
        for words in re.findall(r"(?<![\w/.-])syncer((?: --?[\w-]+| [a-z][\w-]*)+)", said):
            called = [word for word in words.split() if not word.startswith("-")]
            path = next((p for p in COMMANDS if list(p) == called[: len(p)]), None)
            options = {word for word in words.split() if word.startswith("--")} - {"--help", "--version"}
            known = {opt for p in COMMANDS[path].params for opt in p.opts} if path else set()
            if (path is None and called) or options - known:
                wrong.append(code)
    assert wrong == []


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_that_a_page_names_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for code in code_of(page) for name in re.findall(r"^make ([a-z]+)", code.strip())}
    assert named - targets == set()


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    theirs = (".venv", "tokens/", "secrets/")  # what a user makes beside the files of the project
    named = {code for code in code_of(page) if FILE_NAME.fullmatch(code) and not code.startswith(theirs)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_every_module_is_in_the_layout() -> None:
    modules = [path.relative_to(ROOT).as_posix() for path in (ROOT / "syncer").glob("*.py") if "__" not in path.name]
    assert [module for module in modules if f"`{module}`" not in section("## Development")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        if not target.exists() or (anchor and anchor not in slugs(target)):
            wrong.append(link)
    assert wrong == []
