"""What several commands print."""

from typing import Any, Literal, NotRequired, TypedDict


class Interval(TypedDict):
    """A quantity with the interval that holds its true value at the stated confidence."""

    value: float
    low: float
    high: float


class Device(TypedDict):
    """What a measurement was taken on. Null: the system does not tell."""

    machine: str | None
    """the architecture, as `platform.machine()` says it"""
    board: str | None
    """the device's own name, where firmware tells it"""
    cpu: str | None
    cores: int | None
    """of the machine"""
    usable_cores: int | None
    """that a process may use"""
    cpu_quota: NotRequired[float | None]
    """seconds of CPU time a second, where a container limits that; null: nothing does, or it is not told"""
    memory_bytes: int | None
    os: str | None
    python: str
    """the version of the interpreter there"""
    emulated: str | None
    """the emulator that runs it; null: none was found"""
    url: NotRequired[str]
    """the device as `--device` names it"""
    unverified: NotRequired[str | None]
    """what this kind of device was not tested on"""
    browser: NotRequired[str | None]
    """the browser and its version; null: there is none"""


class TensorSpec(TypedDict):
    """An input or output."""

    name: str
    dtype: str
    shape: list[int | str]
    """a name stands for a free dimension"""


class StatePair(TypedDict):
    """An output that is an input of the next run."""

    input: str
    output: str
    buffer: bool
    """it is a buffer of the user's module, and no argument of forward"""


class Source(TypedDict):
    """The model that was named."""

    spec: str
    """as it was written"""
    kind: str
    name: str
    description: str
    parameters: int | None
    precision: NotRequired[str]
    """what it comes in: fp32, or how it was quantized before edgekit saw it"""
    quantized: NotRequired[str | None]
    """"int8 already (2 Conv, 1 Gemm)"; null: it was not quantized before"""
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    notes: list[str]
    """what was decided for the user, a line each"""
    made_up: str | None
    """what of the example inputs nobody gave; null: nothing"""
    state: list[StatePair]
    """what goes from one run to the next"""
    state_found: list[str]
    """those of its inputs that were found by their names, and not stated"""


class Tolerance(TypedDict):
    """The bounds that are stated; what is missing is not asked."""

    max_abs: NotRequired[float]
    rel_l2: NotRequired[float]
    sqnr_db: NotRequired[float]
    """at least this"""
    part_db: NotRequired[float]
    """the same of the worst part of an output"""
    atol: NotRequired[float]
    rtol: NotRequired[float]


class OutputError(TypedDict):
    """How far one output is from the reference."""

    max_abs: float | None
    rel_l2: float | None
    sqnr_db: float | None
    part: str | None
    """its worst part, as an index: "[:, 4:8]"; "": the whole, centred; null: not told apart"""
    part_db: float | None
    """that part's ratio in decibels, against what varies there; null: equal, or not told apart"""
    differ: float | None
    """the share of its integers, booleans or strings that is not equal; null: it holds other numbers"""


class Parity(TypedDict):
    """How far the engine is from PyTorch, over all samples; the worst output counts."""

    passed: bool
    max_abs: float | None
    """in the output's unit"""
    rel_l2: float | None
    """the error's norm over the reference's"""
    sqnr_db: float | None
    """signal-to-noise ratio in decibels; null where the outputs are equal"""
    part_db: float | None
    """of the worst part of any output; null where they are equal"""
    worst: str
    """which part that is, in words"""
    differ: float | None
    """the largest share of an output's integers that are not equal; null: no output holds integers"""
    samples: int
    tolerance: Tolerance
    reference: str
    """what it was compared with, and its version"""
    misses: list[str]
    """each bound that does not hold"""
    outputs: dict[str, OutputError]


class Rollout(TypedDict):
    """A stream in the engine beside PyTorch's, each with its own state. Null decibels: the outputs are equal."""

    passed: bool
    steps: int
    frames: str
    """where they come from"""
    sqnr_db: float | None
    """of the worst output over all steps"""
    max_abs: float | None
    first_db: float | None
    """of the first step, against what varies over all steps"""
    last_db: float | None
    """of the last step"""
    tail_db: float | None
    """of the last quarter of the steps"""
    worst_db: float | None
    worst_step: int
    """counted from 1"""
    steps_db: list[float | None]
    state_bound: bool | None
    """whether the engine kept the state in its own memory"""
    misses: list[str]


class Metric(TypedDict):
    """A metric through the engine beside the reference's, on the same samples."""

    name: str
    reference: float | None
    """null: infinite, as PyTorch's SQNR to itself is"""
    value: float | None
    """null: infinite"""
    drop: float | None
    """how much worse than the reference, in the metric's unit; negative: better; null: infinite"""
    max_drop: float | None
    """the largest that was accepted"""
    samples: int
    compared_with: str | None
    """labels, or whose outputs; null: only the metric's author knows"""
    details: dict[str, float]
    """what the value alone does not tell, by name; {} for most metrics"""
    data_sha256: str | None
    """of the samples and their labels, in order"""


class PassRecord(TypedDict):
    """What a graph pass did."""

    name: str
    modified: bool
    detail: str
    """what it changed, or why nothing"""
    options: dict[str, Any]
    nodes_before: int
    nodes_after: int
    seconds: float


class Runtime(TypedDict):
    """The engine with its session options."""

    name: str
    version: str
    options: dict[str, Any]


class ErrorDetails(TypedDict):
    """What went wrong and how to go on."""

    message: str
    details: list[str]
    """nodes, layers or samples, a line each"""
    fix: str
    exit_code: int


class Error(TypedDict):
    """What every command prints in place of its result when it fails."""

    schema: Literal[1]
    error: ErrorDetails


class Speed(TypedDict):
    """How fast the machine was, whatever it ran: seconds for fixed pieces of work. See `results compare`."""

    integer_s: float
    float_s: float
    memory_s: float
