"""``edgekit export --json`` and ``edgekit demo --json``."""

from typing import Any, Literal, NotRequired, TypedDict

from .common import Device, Interval, Metric, Parity, PassRecord, Rollout, Source, Speed


class CandidateLatency(TypedDict):
    """How long one run takes, from the race of the candidates."""

    p50_s: Interval
    p90_s: Interval | None
    """null: the samples cannot support it"""
    n: int
    """timed runs"""
    processes: int
    """fresh processes they come from"""
    screening: bool
    """true: from a short round alone, because it was not among the fastest"""
    speedup_over_fp32: Interval | None
    """the fastest fp32 candidate's p50 over this one's, round by round"""
    speed: NotRequired[Speed | None]
    """how fast the machine was beside it; null: not among the fastest"""


class SameGraph(TypedDict):
    """How far an emulated engine is from ONNX Runtime's CPU kernels on the same graph."""

    reference: str
    samples: int
    max_abs: float
    sqnr_db: float | None
    """null: the outputs are equal"""
    max_lsb: float | None
    """max_abs in steps of the output's own quantization; null: it is not quantized"""


class Candidate(TypedDict):
    """One way to ship the model, as built, checked and measured. What it did not come to is null."""

    name: str
    runtime: str
    precision: str
    options: dict[str, Any]
    """session options, as measured"""
    size_bytes: int | None
    """of what the engine loads"""
    nodes: int | None
    latency: CandidateLatency | None
    parity: Parity | None
    metric: Metric | None
    rollout: Rollout | None
    """null: the model has no memory, or it did not come to that"""
    same_graph: SameGraph | None
    kept_float: list[str]
    """nodes left in floating point to hold the accuracy"""
    rejected: str | None
    """why it cannot be picked"""
    withheld: str | None
    """why it must not be picked though it passed; null: it may be, or it did not pass"""
    note: str | None
    checked_with: str | None
    """the runtime that checked it in place of its own"""
    peak_rss_bytes: int | None
    """of a process that runs it; null: the target states no limit, or it is not known"""


class Memory(TypedDict):
    """The main memory that the pick needs, beside what the target has."""

    limit_bytes: int
    """the target's [limits] memory_bytes"""
    peak_rss_bytes: int | None
    not_checked_because: str | None
    """why the peak is not known; null: it is, and within the limit"""


DecidedBy = Literal["pytorch", "agreement", "majority", "option", "alone"]


class Evaluator(TypedDict):
    """What another evaluator of an ONNX file says."""

    name: str
    agrees: bool | None
    """null: it could not run the file"""
    sqnr_db: float | None
    """between its answers and the reference's, the worst output; null: equal, or it could not run"""
    why: str


class Reference(TypedDict):
    """What the candidates are compared with, and who decided that."""

    name: str
    decided_by: DecidedBy
    """of an .onnx file: evaluators that share no code agree; two of three do; --reference; or no second one runs it"""
    samples: int
    """on which the others were asked"""
    evaluators: list[Evaluator]
    first_node_that_differs: str | None


class TensorRange(TypedDict):
    """A tensor of the float graph over the calibration samples."""

    tensor: str
    module: str
    """the PyTorch module that makes it; "": an input, or not known"""
    low: float | None
    """null: no finite value"""
    high: float | None
    sample: int
    """the one with the largest magnitude: its place in the data, from 0"""
    p999: float | None
    """the 99.9th percentile of the magnitude"""
    usual: float | None
    """the median over the samples of each one's largest magnitude"""
    max_over_p999: float | None
    """null: all but a thousandth of the values are 0"""
    saturated: float
    """the share of values at an end of the range that is not 0"""
    not_finite_in: list[int]


class Observed(TypedDict):
    """What the calibration data make of the float graph."""

    warnings: list[str]
    constant: list[str]
    """tensors with one value throughout"""
    saturated: list[str]
    """tensors of which 1 % or more lie at an end of the range"""
    outliers: list[str]
    """tensors whose range a few values or one sample make, the worst first"""
    tensors: list[TensorRange]


class Calibration(TypedDict):
    """What int8 took its ranges from."""

    data: str
    samples: int
    same_data_as_checked: bool
    real: NotRequired[bool]
    """false: nobody gave data; the ranges are of the example inputs, and what is built of them is withheld"""
    made_up: NotRequired[str | None]
    """of those, what edgekit made up ("images 1x3x32x32"); null: nothing"""
    observed: NotRequired[Observed | None]
    """null: no candidate needs calibration, nobody gave data, or the float graph does not run here"""


class ExportedSource(Source):
    """The model that was exported."""

    macs: int | None
    """multiply-accumulates of one run"""


class Nodes(TypedDict):
    """Nodes of the graph."""

    exported: int
    after_passes: int


class Stage(TypedDict):
    """A part of the work."""

    name: str
    seconds: float


class Export(TypedDict):
    """Every candidate with its numbers, and the pick."""

    schema: Literal[1]
    target: str
    bundle: str
    """the folder that was written"""
    size_bytes: int
    """of the bundle's model"""
    fp32_size_bytes: int | None
    source: ExportedSource
    parity: Parity | None
    """the pick's"""
    candidates: list[Candidate]
    """the pick first, then by p50, the rejected ones last"""
    chosen: str
    """the name of the pick"""
    reason: str
    """why this one"""
    placement: dict[str, int]
    """device → number of nodes"""
    device: Device | None
    """what candidates were checked and measured on"""
    measured: bool
    not_measured_because: str | None
    unverified: str | None
    """what the pick was not checked on, and ships all the same (--unverified); null: nothing is missing"""
    emulated: str | None
    """what stood for the device in every check; null: the device itself"""
    reference: Reference | None
    """null: made by an older edgekit"""
    memory: Memory | None
    """null: the target states no limit"""
    metric: Metric | None
    """the pick's"""
    calibration: Calibration | None
    passes: list[PassRecord]
    """those that every candidate shares"""
    opset: int
    nodes: Nodes
    self_test: str
    stages: list[Stage]
    result: NotRequired[str | None]
    """the id under which it is kept; null: it could not be kept"""
    samples: NotRequired[str | list[str]]
    """the files of the raw latencies"""
    not_measured: NotRequired[dict[str, str]]
