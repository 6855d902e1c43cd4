"""``edgekit targets … --json``."""

from typing import Any, Literal, TypedDict

from .common import Tolerance


class TargetRow(TypedDict):
    """An installed target."""

    name: str
    description: str
    arch: list[str]
    """the device's machine; empty: any"""
    candidates: list[str]
    file: str


class TargetsList(TypedDict):
    """Every installed target."""

    schema: Literal[1]
    targets: list[TargetRow]


class PassSpec(TypedDict):
    """A pass with the options written for it."""

    name: str
    options: dict[str, Any]


class CandidateSpec(TypedDict):
    """One way to ship the model."""

    name: str
    runtime: str
    precision: str
    format: str
    passes: list[PassSpec]
    export_options: dict[str, Any]
    options: dict[str, Any]
    """session options"""
    tune: dict[str, list[Any]]
    """session option → values to try"""
    arch: list[str]
    """machines it is made for; empty: any"""
    check_with: str
    """the runtime that checks the numerics where its own cannot run; empty: none may"""
    check_options: dict[str, Any]
    device: str | None
    """where its nodes must run; null: where the target says"""


class TargetsShow(TypedDict):
    """A profile after inheritance. The keys of the tables are explained by `edgekit targets new`."""

    schema: Literal[1]
    name: str
    description: str
    abstract: bool
    arch: list[str]
    limits: dict[str, Any]
    export: dict[str, Any]
    passes: list[PassSpec]
    """for every candidate, before its own"""
    candidates: list[CandidateSpec]
    tolerance: dict[str, Tolerance]
    """precision → what parity must hold"""
    tolerance_with_metric: dict[str, Tolerance]
    """the same where a metric on labels judges the accuracy"""
    measure: dict[str, Any]
    verified: dict[str, str]
    """where it was tried; empty: not there"""
    files: list[str]
    """the profile's own file first, then those it inherits from"""
    origins: dict[str, str]
    """dotted key → the file its value came from"""


class TargetsNew(TypedDict):
    """The profile that was written."""

    schema: Literal[1]
    name: str
    file: str
    extends: str
    candidates: list[str]
