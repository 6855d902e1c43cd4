"""What edgekit tells its users: one rule for full stops, and no phrase that was found clumsy once.

The messages are gathered from the code: what is given to an error of `edgekit.errors`, and what stands as a ``fix``,
``details``, ``note`` or ``reason`` anywhere. ``…`` stands for what is known only when it is raised.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit import errors

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("edgekit", "exporters", "runtimes", "examples/digits")
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
VALUE = "…"
# How the end of a fix begins where it is to be copied: a command line, an option, a variable to set, code, an address.
_COMMANDS = "adb|apt|apt-get|edgekit|hf|npm|nvidia-smi|pip|python3?|ssh|ssh-copy-id|ssh-keygen|sudo"
COPIED = re.compile(rf"--[a-z]|({_COMMANDS}) (?!does|is)[^ ]|[A-Z_]{{4,}}=|[\w.]+\(|[\w.]+\.py:|https?:")
# Phrases that were in messages once and read like another language's, with what to write.
CLUMSY = {
    r"(?<!there )\bis no\b(?! longer\b)": "is not a …",
    r"\bis none\b|\bnot either\b": "say what is missing: '… has no …'",
    r"\bhas not (?:a|an|the)\b": "does not have …",
    r"\banew\b": "again",
    r"\bE\.g\.": "For example: …",
    r"\btells? (?:no|nothing|neither|its)\b": "does not say, does not report",
    r"\bNothing can be compared\b": "… cannot be compared",
    r"\b(?:of|to) ones own\b|\bof yours\b": "your own",
    r"\bin a circle\b": "in a cycle",
    r"\bone an? \w+\b": "one per …",
    r"\bwas told to\b": "was asked to",
    r"\bwhole result\b": "complete result",
}


@dataclass(frozen=True)
class Message:
    where: str  # file:line
    kind: str  # "what", "fix", "details", "note", "reason"
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.text}"


def messages_of(source: str, name: str) -> list[Message]:
    """Every message that a module may give, each of its forms.

    Besides those of errors these are the notes of passes (``Change``), and why an engine refuses a node (``Refusal``).
    """
    tree = ast.parse(source)
    constants = {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        parts = [(item.arg, item.value) for item in node.keywords if item.arg in ("fix", "details", "note", "reason")]
        if called in ERRORS and node.args:
            parts.append(("what", node.args[0]))
        if called in ("Change", "of"):
            parts += [("note", item) for item in node.args[1:]]
        if called == "Refusal":
            parts += [("reason", item) for item in node.args[1:2]]
        for kind, value in parts:
            lines = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
            for line in lines:
                texts = dict.fromkeys(forms(line, constants))
                found += [Message(f"{name}:{line.lineno}", str(kind), text) for text in texts if is_prose(text)]
    return found


def forms(node: ast.expr, constants: dict[str, ast.expr], depth: int = 0) -> Iterator[str]:
    """All that an expression may say."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Name(id=name) if name in constants and depth < 3:
            yield from forms(constants[name], constants, depth + 1)
        case ast.JoinedStr(values=values):
            yield from joined(list(forms(item, constants, depth)) for item in values)
        case ast.FormattedValue(value=value):
            yield from forms(value, constants, depth)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from joined([list(forms(item, constants, depth)) for item in (left, right)])
        case ast.IfExp(body=body, orelse=orelse):
            yield from forms(body, constants, depth)
            yield from forms(orelse, constants, depth)
        case ast.BoolOp(values=values):
            for item in values:
                yield from forms(item, constants, depth)
        case ast.Call(func=ast.Name(id="suggestion")):
            yield "Did you mean 'x'?"
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            yield re.sub(r"\{[^}]*\}", VALUE, text)
        case _:
            yield VALUE


def joined(parts: Iterable[list[str]]) -> Iterator[str]:
    return ("".join(pieces) for pieces in itertools.product(*parts))


def is_prose(text: str) -> bool:
    return re.search(r"[a-z]{2}", text) is not None


@functools.cache
def messages() -> tuple[Message, ...]:
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return tuple(
        message
        for path in paths
        for message in messages_of(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    )


def wrong_end(message: Message) -> str:
    """What is wrong with a message's end, or an empty text."""
    text = message.text.rstrip()
    if message.kind != "fix":
        return "ends with a full stop" if re.search(r"[.;:!]$", text) else ""
    last = re.split(r": |[.?] (?=[A-Z])", text)[-1]
    if COPIED.match(last):
        return "what is to be copied ends with a full stop" if text.endswith(".") else ""
    # After the sentences there may be a command in brackets.
    return "" if re.search(r"[.?](?: \([^()]+\))?$|…$", text) else "ends without a full stop"


def test_what_has_no_full_stop_and_a_fix_is_whole_sentences() -> None:
    """`EdgekitError` prints "what. fix"; the rule stands in `edgekit.errors`."""
    wrong = [f"{message}   <- {why}" for message in messages() if (why := wrong_end(message))]
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_phrase_that_was_found_clumsy() -> None:
    wrong = [
        f"{message}   <- write: {better}"
        for message in messages()
        for phrase, better in CLUMSY.items()
        if re.search(phrase, message.text)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_messages_are_found() -> None:
    """Else the tests above look at nothing: those of all folders, and a few hundred of them."""
    assert {message.where.split("/")[0] for message in messages()} == {"edgekit", "exporters", "runtimes", "examples"}
    assert {message.kind for message in messages()} == {"what", "fix", "details", "note", "reason"}
    assert len(messages()) > 500


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("UsageError('it is wrong.')", "m.py:1: what: it is wrong.   <- ends with a full stop"),
        ("UsageError(f'{x} is wrong', fix='Mend it')", "m.py:1: fix: Mend it   <- ends without a full stop"),
        ("UsageError('wrong', fix='Mend it.')", None),
        ("UsageError('wrong', fix=f'Did you mean {x!r}?')", None),
        ("UsageError('wrong', fix='Did you mean a? (edgekit targets list)')", None),
        ("UsageError('wrong', fix='Install it: pip install x')", None),
        (
            "UsageError('wrong', fix='Install it: pip install x.')",
            "m.py:1: fix: Install it: pip install x.   <- what is to be copied ends with a full stop",
        ),
        (
            "UsageError('wrong', fix='Mend it' if x else 'Save it: numpy.savez(path)')",
            "m.py:1: fix: Mend it   <- ends without a full stop",
        ),
        ("ADVICE = 'Mend it'\nUsageError('wrong', fix=ADVICE)", "m.py:2: fix: Mend it   <- ends without a full stop"),
        ("Placement(reason='It fell.')", "m.py:1: reason: It fell.   <- ends with a full stop"),
    ],
)
def test_the_rule_itself(code: str, wrong: str | None) -> None:
    told = [f"{message}   <- {why}" for message in messages_of(code, "m.py") if (why := wrong_end(message))]
    assert told == ([] if wrong is None else [wrong])
