"""``edgekit bundle … --json`` and ``edgekit build --json``."""

from typing import Any, Literal, NotRequired, TypedDict

from .common import Device, PassRecord, Runtime, StatePair, TensorSpec, Tolerance


class EngineUse(Runtime):
    """The engine that opens the artifact, with the session options that were measured."""

    install: str
    """the line that installs it on a device"""


class Artifact(TypedDict):
    """What the engine loads."""

    file: str
    format: str


class Substitute(EngineUse):
    """What checked the artifact in place of its engine."""

    reason: str


class Golden(TypedDict):
    """Real inputs with PyTorch's outputs."""

    samples: int
    tolerance: Tolerance
    steps: NotRequired[int]
    """of a stream, where the model has memory"""
    steps_tolerance: NotRequired[Tolerance]


class FileRecord(TypedDict):
    """A file of the bundle."""

    sha256: str
    size_bytes: int


class IgnoreWhere(TypedDict):
    """Where nobody reads the outputs: golden ones hold 0 there, and the self-test does not look."""

    input: str
    """the mask"""
    value: float
    outputs: list[str]


class Manifest(TypedDict):
    """The content of a bundle's manifest.json."""

    schema: Literal[1]
    name: str
    target: str
    arch: list[str]
    """the machines it was made for; empty: any"""
    precision: str
    runtime: EngineUse
    artifact: Artifact
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    placement: dict[str, int]
    """expected: device → number of nodes"""
    parity: dict[str, Any]
    """reached against PyTorch, with the tolerance it was held to"""
    metric: dict[str, Any] | None
    passes: list[PassRecord]
    source: dict[str, Any]
    calibration: dict[str, Any] | None
    versions: dict[str, str]
    created: str
    """ISO 8601, UTC"""
    checked_with: Substitute | None
    """null: the engine itself"""
    unverified: str | None
    """what it was not checked on, and was shipped all the same; null: nothing is missing"""
    golden: Golden
    ignore: NotRequired[list[IgnoreWhere]]
    state: NotRequired[list[StatePair]]
    """what goes from one run to the next"""
    files: dict[str, FileRecord]


class BundleFacts(TypedDict):
    """`bundle verify` and `bundle unpack`: a bundle that is whole."""

    schema: Literal[1]
    bundle: str
    sha256: str
    """of its manifest, which holds the hash of every other file"""
    files: int
    size_bytes: int
    model_bytes: int
    target: str
    precision: str
    runtime: Runtime


class BundlePack(TypedDict):
    """`bundle pack`."""

    schema: Literal[1]
    bundle: str
    packed: str
    """the file that was written"""
    size_bytes: int


class GoldenParity(TypedDict):
    """The golden inputs' outputs against PyTorch's."""

    max_abs: float | None
    rel_l2: float | None
    sqnr_db: float | None
    """null: the outputs are equal"""
    part_db: float | None
    """of the worst part of any output"""
    worst: str
    """which part that is, in words"""
    samples: int
    tolerance: Tolerance


class GoldenSteps(TypedDict):
    """The golden stream's outputs, with the bundle's own state, against PyTorch's with its own."""

    sqnr_db: float | None
    """null: the outputs are equal"""
    steps: int
    tolerance: Tolerance


class EngineName(TypedDict):
    """An engine."""

    name: str
    version: str


class SelfTest(TypedDict):
    """`bundle run` without data."""

    schema: Literal[1]
    bundle: str
    passed: bool
    misses: list[str]
    parity: GoldenParity
    stream: GoldenSteps | None
    """null: the model has no memory"""
    runtime: EngineName


class ArrayInfo(TypedDict):
    """An output over all samples."""

    dtype: str
    shape: list[int]


class RunOnData(TypedDict):
    """`bundle run --data`."""

    schema: Literal[1]
    bundle: str
    samples: int
    streamed: bool
    """a model with memory: each with the state that the last one left"""
    output: str | None
    """the .npz file that was written"""
    outputs: dict[str, ArrayInfo]


BundleRun = SelfTest | RunOnData


class BuiltRuntime(TypedDict):
    """The engine, and what it says of itself."""

    name: str
    version: str
    in_force: dict[str, Any]


class Build(TypedDict):
    """`edgekit build`: what was built on the device, where, and how long it took."""

    schema: Literal[1]
    bundle: str
    what: str
    """a plan, for TensorRT"""
    built: bool | None
    """false: it was there already"""
    build_s: float | None
    path: str | None
    """where it is kept, on the device"""
    because: str | None
    """why it was built"""
    load_s: float
    """opening the model, building included"""
    first_run_s: float | None
    device: Device
    runtime: BuiltRuntime
    placement: dict[str, int]
    """device → number of nodes"""
