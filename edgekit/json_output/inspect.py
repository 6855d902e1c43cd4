"""``edgekit inspect --json``."""

from typing import Literal, TypedDict

from .bundle import Manifest
from .common import Source


class Parameters(TypedDict):
    """Numbers that were trained."""

    count: int
    bytes: int


class NodeMacs(TypedDict):
    """A node that multiplies."""

    name: str
    op_type: str
    module: str
    """the dotted path of its PyTorch module, or empty"""
    macs: int


class Macs(TypedDict):
    """Multiply-accumulates of one run."""

    total: int
    nodes: list[NodeMacs]


class Refusal(TypedDict):
    """One operator, with its dtypes and attributes, that an engine does not take."""

    op_type: str
    signature: str
    """input dtypes with their ranks, attributes"""
    count: int
    modules: list[str]
    """PyTorch modules, or the nodes' names where the graph does not tell"""
    words: str
    """the engine's"""


class Acceptance(TypedDict):
    """What one engine says to the model."""

    runtime: str
    version: str | None
    takes: bool
    reason: str | None
    """why it does not, or could not be asked"""
    refusals: list[Refusal]
    elsewhere: list[str]
    """nodes that would run on another device than the target allows"""
    by_rules: bool
    """true: judged by what is documented of the engine, which cannot run here"""
    asked: bool
    """false: neither the engine nor rules of it are here"""


class InspectSource(TypedDict):
    """A model taken apart."""

    schema: Literal[1]
    source: Source
    nodes: int
    operators: dict[str, int]
    """operator → number of nodes, the most first"""
    parameters: Parameters
    macs: Macs
    activation_peak_bytes: int | None
    """the largest sum of what is alive at the same time"""
    activation_peak_at: str | None
    """the node during which it occurs"""
    dims: dict[str, int]
    """the value that each free dimension was given"""
    unknown: list[str]
    """why a quantity is null"""
    target: str | None
    engines: list[Acceptance]
    """those of the target"""


class InspectBundle(TypedDict):
    """A bundle's manifest."""

    schema: Literal[1]
    bundle: str
    manifest: Manifest


Inspect = InspectSource | InspectBundle
