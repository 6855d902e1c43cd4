"""Graph passes: ``onnx_ir.Model`` in, the same model out, cheaper. One pass a module, called as the module.

A pass module holds a subclass of `GraphPass` in its attribute ``PLUGIN``. It says whether it changed the graph, and
what or why not. Options come from the target profile; what else it may look at is its `PassContext`.
"""

from __future__ import annotations

import abc
import time
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from ..context import PassContext
from ..contracts import PassRecord, options_from
from ..graph import count_nodes


@dataclass(frozen=True, slots=True)
class NoOptions:
    """For a pass that takes none."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a rewrite did. "No" comes with its reason."""

    modified: bool
    detail: str

    @classmethod
    def of(cls, count: int, what: str, otherwise: str) -> Change:
        """``what`` if ``count`` is not zero, else not modified because of ``otherwise``."""
        return cls(count > 0, what if count else otherwise)


class Result(ir.passes.PassResult):
    """An onnx_ir pass result that also carries a record for the user."""

    def __init__(self, model: ir.Model, modified: bool, record: PassRecord) -> None:
        super().__init__(model, modified)
        self.record = record


class GraphPass(ir.passes.PassBase):
    """Base class. Fill `rewrite`; set ``name``, and ``Options`` to a frozen dataclass if the pass takes any."""

    name: ClassVar[str]
    Options: ClassVar[type[Any]] = NoOptions
    needs_calibration: ClassVar[bool] = False

    def __init__(self, options: Any = None, context: PassContext | None = None) -> None:
        self.options = self.Options() if options is None else options
        self.context = context or PassContext()

    @classmethod
    def from_table(cls, table: dict[str, Any], context: PassContext) -> GraphPass:
        """Make the pass from the options a target profile states.

        Raises:
            UsageError: an unknown option (with the nearest known one) or a value of the wrong type.
        """
        return cls(options_from(cls.Options, table, f"pass '{cls.name}'"), context)

    @property
    def in_place(self) -> bool:
        """Whether the same model object comes back."""
        return True

    @property
    def changes_input(self) -> bool:
        """Whether the input model may be changed or used up."""
        return True

    def call(self, model: ir.Model) -> Result:
        """Run `rewrite` and keep the record. onnx_ir's ``__call__`` checks what is promised around it."""
        before, start = count_nodes(model), time.perf_counter()
        model, change = self.rewrite(model)
        record = PassRecord(
            name=self.name,
            modified=change.modified,
            detail=change.detail,
            options=asdict(self.options),
            nodes_before=before,
            nodes_after=count_nodes(model),
            seconds=time.perf_counter() - start,
        )
        return Result(model, change.modified, record)

    @abc.abstractmethod
    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Change ``model`` and return it (or, where ``in_place`` is False, another), with what was done."""
