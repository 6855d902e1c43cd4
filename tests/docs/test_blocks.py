"""Every block of README and docs/ that a reader could type is run, or marked why not. docs/design.md has the marks.

The blocks of a page run in order in one folder, which starts with what the first page makes: `net.py`, `test.npz`,
`train.npz`, `build.edgekit` and its kept result. So the quick blocks of a page can run without its slow ones.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from edgekit import plugins
from edgekit.cli import main
from edgekit.target.load import load_target

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
MEASURES = ("edgekit export", "edgekit bench", "edgekit compare", "python build.edgekit/run.py bench")
SHOWN = ("text", "html")
"""Languages of blocks that show something: nobody types them into a shell or into Python."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What the comment above a block says."""

    not_run: str = ""
    slow: bool = False
    exit_code: int = 0
    file: str = ""
    arguments: str = ""
    before: tuple[str, ...] = ()
    replace: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    mark: Mark | None
    commands: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> Iterator[Block]:
    """The fenced blocks of a page, each with the mark on the line above it."""
    before, lines = "", enumerate(text.splitlines(), 1)
    for number, line in lines:
        if not line.startswith("```"):
            before = line
            continue
        inside = []
        for _, other in lines:
            if other == "```":
                break
            inside.append(other)
        mark = mark_of(before, f"{page}:{number}")
        code = "\n".join(inside) + "\n"
        language = line.removeprefix("```")
        yield Block(page, number, language, code, mark, tuple(commands(code)) if language == "sh" else ())
        before = ""


def commands(code: str) -> Iterator[str]:
    """The command lines of a shell block, without their comments."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            yield from re.sub(r"\s{2,}#.*$", "", line).strip().split(" && ")


def mark_of(line: str, place: str) -> Mark | None:
    found = re.fullmatch(r"<!-- (test|not run)(?:: (.*))? -->", line)
    if not found:
        return None
    kind, told = found[1], found[2] or ""
    if kind == "not run":
        assert told, f"{place}: say why it is not run"
        return Mark(not_run=told)
    slow, code, file, arguments = False, 0, "", ""
    before: list[str] = []
    replace: list[tuple[str, str]] = []
    for item in filter(None, re.split(r"; (?=(?:slow|exit|file|with|before|replace)\b)", told)):
        word, _, rest = item.partition(" ")
        if word == "slow":
            slow = True
        elif word == "exit":
            code = int(rest)
        elif word == "file":
            file = rest
        elif word == "with":
            arguments = rest
        elif word == "before":
            before.append(rest)
        elif word == "replace":
            old, _, new = rest.partition(" => ")
            replace.append((old, new))
        else:
            raise AssertionError(f"{place}: no such mark: {item!r}")
    return Mark("", slow, code, file, arguments, tuple(before), tuple(replace))


BLOCKS = {page: list(blocks(page, path.read_text(encoding="utf-8"))) for page, path in PAGES.items()}
TYPED = [block for page in BLOCKS.values() for block in page if block.language not in SHOWN]
LINES = [(block.place, line) for block in TYPED for line in block.commands]
INLINE = [
    (page, code)
    for page, path in PAGES.items()
    for code in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.M))
]


def to_run(page: str, *, slow: bool) -> list[tuple[Block, Mark]]:
    """The blocks of a page that a test runs, with or without the slow ones."""
    marked = [(block, block.mark) for block in BLOCKS[page] if block.mark is not None]
    return [(block, mark) for block, mark in marked if not mark.not_run and (slow or not mark.slow)]


# ── What holds for all of them ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    for block in BLOCKS[page]:
        assert block.language, f"{block.place}: a block names its language; `text` for what is only shown"
        assert block.language in (*SHOWN, "sh", "python", "toml"), f"{block.place}: who runs {block.language}?"
        assert block.mark or block.language in SHOWN, f"{block.place}: <!-- test … --> or <!-- not run: WHY -->"


def test_a_mark_is_read() -> None:
    mark = "<!-- test: slow; exit 3; with --max-time 2; before touch x; replace a => b -->"
    text = f"{mark}\n```sh\nedgekit bench x  # y\n```\n"
    (block,) = blocks("page.md", text)
    assert block.mark == Mark("", True, 3, "", "--max-time 2", ("touch x",), (("a", "b"),))
    assert block.commands == ("edgekit bench x",)
    assert mark_of("<!-- not run: needs a board -->", "") == Mark(not_run="needs a board")
    with pytest.raises(AssertionError, match="no such mark: 'quick'"):
        mark_of("<!-- test: quick -->", "page.md:1")
    with pytest.raises(AssertionError, match="say why"):
        mark_of("<!-- not run -->", "page.md:1")


def test_options_and_commands_exist_even_where_a_block_is_not_run() -> None:
    named = [(place, line) for place, line in [*LINES, *help_examples()] if line.startswith("edgekit ")]
    assert len(named) > 40
    for place, line in named:
        try:
            parse(line)
        except Exception as error:
            raise AssertionError(f"{place}: {line}: {error}") from error


def test_options_and_commands_in_the_text_exist() -> None:
    """In running text a command may be cut short, so its options are looked up and not parsed."""
    every = {name for command in leaves() for item in command.params for name in item.opts} | {"--help", "--version"}
    checked = 0
    for page, code in INLINE:
        words = [word.split("=")[0] for word in code.replace("|", " ").split()]
        if words[0] in ("pip", "python", "mkdocs", "--extra-index-url"):
            continue
        known = every
        if words[0] == "edgekit" or words[0] in main.list_commands(click.Context(main)):
            command, _ = resolve([word for word in words if word != "edgekit"])
            known = {name for item in command.params for name in item.opts} | {"--help"}
        for word in words:
            if word.startswith("--"):
                checked += 1
                assert word in known, f"{page}: `{code}`: no option {word}"
    assert checked > 40


def test_what_pip_is_to_install_is_what_pyproject_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = {*project["dependencies"], *(item for items in extras.values() for item in items)}
    known = {re.split(r"[\s<>=\[;]", item)[0] for item in named}
    lines = [(place, line) for place, line in LINES if line.startswith("pip install ")]
    assert len(lines) > 8
    for place, line in lines:
        words = iter(shlex.split(line)[2:])
        for word in words:
            if word == "-c":
                assert (ROOT / next(words)).is_file(), place
            elif word == "-e":
                asked = re.fullmatch(r"\.\[([\w,-]+)\]", next(words))
                assert asked and {*asked[1].split(",")} <= {*extras}, f"{place}: {line}"
            else:
                assert word in known, f"{place}: {line}"


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that ``words`` begin with, and what follows it."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        below = command.get_command(click.Context(command), words[0])
        assert below is not None, f"no command {words[0]!r}"
        command, words = below, words[1:]
    return command, words


def parse(line: str) -> None:
    """Let click read a command line, and go no further."""
    command, words = resolve(shlex.split(line)[1:])
    assert not isinstance(command, click.Group)
    command.make_context(command.name, words).close()


def leaves() -> Iterator[click.Command]:
    """Every command that is no group."""
    waiting: list[click.Command] = [main]
    while waiting:
        command = waiting.pop()
        if isinstance(command, click.Group):
            context = click.Context(command)
            waiting += filter(None, (command.get_command(context, name) for name in command.list_commands(context)))
        else:
            yield command


def help_examples() -> Iterator[tuple[str, str]]:
    """The lines that each command's ``--help`` ends with."""
    for command in leaves():
        examples = (command.epilog or "").partition("Example:\n")[2].splitlines()
        yield from ((f"{command.name} --help", line) for line in commands("\n".join(examples)))


# ── What they do ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page, slow=False)])
def test_quick(page: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, project, tmp_path / "page", monkeypatch, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page, slow=True) != to_run(page, slow=False)])
def test_whole(page: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, project, tmp_path / "page", monkeypatch, slow=True)


def run_page(page: str, project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, slow: bool) -> None:
    shutil.copytree(project, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("EDGEKIT_RESULTS")  # they are kept in the folder
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for block, mark in to_run(page, slow=slow):
        run_block(block, mark, folder)


def run_block(block: Block, mark: Mark, folder: Path) -> None:
    text = block.text
    for old, new in mark.replace:
        assert old in text, f"{block.place}: nothing to replace: {old}"
        text = text.replace(old, new)
    first = [item for item in mark.before if not item.startswith("python: ")]
    imports = [item.removeprefix("python: ") for item in mark.before if item.startswith("python: ")]
    for line in first:
        shell(["bash", "-c", line], folder)
    if mark.file:
        (folder / mark.file).write_text(text)
        if block.language == "python":
            compile(text, mark.file, "exec")
    elif block.language == "toml":
        check_toml(text, folder)
    elif block.language == "python":
        shell([sys.executable, "-c", "\n".join([*imports, text])], folder, mark.exit_code)
    else:
        for line in commands(text):
            run_line(f"{line} {mark.arguments}" if line.startswith(MEASURES) else line, block.place, mark.exit_code)


def run_line(line: str, place: str, code: int) -> None:
    """A command line: edgekit's in this process, since PyTorch is loaded here; another one's in a shell."""
    if line.startswith("edgekit "):
        done = CliRunner().invoke(main, shlex.split(line)[1:])
        assert done.exit_code == code, f"{place}: {line}: exit code {done.exit_code}\n{done.output}"
    elif not line.startswith("pip install "):  # those are checked above: what they name is already here, or not wanted
        shell(["bash", "-c", line], Path.cwd(), code)


def shell(command: list[str], folder: Path, code: int = 0) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def check_toml(text: str, folder: Path) -> None:
    """A piece of pyproject.toml names doors that exist; a piece of a profile is one where it is put into a whole."""
    told = tomllib.loads(text)
    if "project" in told:
        groups = told["project"]["entry-points"]
        assert {*groups} <= {f"edgekit.{kind}" for kind in (*get_args(plugins.Kind), "targets")}
        return
    path = folder / "piece.toml"
    path.write_text(f'name = "piece"\nextends = "cpu"\ndescription = "a piece"\n{text}')
    assert load_target(path).candidates
