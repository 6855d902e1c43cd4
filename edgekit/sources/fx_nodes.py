"""Where a node of an exported program comes from, in the user's words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .. import user_code
from .flat import PREFIX

if TYPE_CHECKING:
    import torch


def module_of(node: torch.fx.Node) -> str:
    """``body.1 (Inner)``: the innermost of the user's modules that it belongs to; '' where torch does not tell."""
    stack = [value for value in (node.meta.get("nn_module_stack") or {}).values() if value[0]]
    if not stack:
        return ""
    path, kind = stack[-1]
    short = str(path).removeprefix(PREFIX).removeprefix(".")
    return f"{short or 'the model itself'} ({getattr(kind, '__name__', str(kind)).rpartition('.')[2]})"


def line_of(node: torch.fx.Node) -> str:
    """``net.py:8 in forward: if x.sum() > 0:``, the innermost line of the user's own code; '' where unknown."""
    found = re.findall(r'File "([^"]+)", line (\d+), in (\w+)\n\s*(.*)', node.meta.get("stack_trace") or "")
    own = [item for item in found if user_code.is_users(item[0])] or found
    if not own:
        return ""
    file, number, function, code = own[-1]
    return f"{user_code.short(file)}:{number} in {function}: {code}"
