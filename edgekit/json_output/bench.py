"""``edgekit bench --json``."""

from typing import Any, Literal, NotRequired, TypedDict

from .common import Device, Interval, Speed


class RuntimeInForce(TypedDict):
    """The engine, what it was asked for and what is in force."""

    name: str
    version: str
    options: dict[str, Any]
    """session options that were asked for"""
    in_force: dict[str, Any]
    """what the engine says of itself"""


class PlacedNode(TypedDict):
    """Where one node ran. Its name may stand for several fused ones."""

    name: str
    op_type: str
    device: str
    precision: str | None
    """what the engine computes it in, where it tells"""
    reason: str | None
    """the engine's own words on why not elsewhere"""


class Latency(TypedDict):
    """Percentiles of one run. One that the samples cannot support is null."""

    p50_s: Interval | None
    p90_s: Interval | None
    p99_s: Interval | None
    confidence: float
    """of each interval"""
    n: int
    """timed runs"""
    effective_n: int
    """what they are worth: correlated runs count less"""
    processes: int


class Stopped(TypedDict):
    """Why the measurement ended when it did."""

    because: Literal["precise", "clock", "time", "seconds"]
    """precise enough; no more to be learnt by a clock that goes in steps; no time left; as long as asked"""
    precision: float | None
    """that was asked, as a share of p50"""
    reached: float | None
    elapsed_s: float


class ColdStart(TypedDict):
    """What a process pays before its first result: medians over processes."""

    first_result_s: float | None
    """from the start of the process"""
    import_s: float | None
    """loading the engine"""
    load_s: float | None
    """opening the model"""
    first_run_s: float | None
    processes: int


class Harness(TypedDict):
    """What measuring itself costs."""

    p50_s: float | None
    """of a run of the null runtime"""


class CallPrice(TypedDict):
    """What `run` costs beside the bound call, which the latency is of: they took turns in one process."""

    run_p50_s: float
    bind_p50_s: float
    adds_s: float
    """median over the turns of the difference"""


class Memory(TypedDict):
    """The largest over all processes."""

    model_bytes: int
    """the size of the model's files"""
    peak_rss_bytes: int | None
    peak_above_engine_bytes: int | None
    """the peak less what was resident with the engine loaded and no model open"""
    device_bytes: int | None


class Meter(TypedDict):
    """What one run takes above the idle machine, in joules, by one meter."""

    value: float
    low: float
    high: float
    gross_j: float
    """idle machine included"""
    idle_w: float
    """what was subtracted"""
    method: str
    runs: int
    seconds: float


class Energy(Meter):
    """By the meter that sees most; the others below it."""

    others: list[Meter]


class Layer(TypedDict):
    """A layer's time, and how near it comes to what the machine can do."""

    name: str
    op_type: str
    modules: list[str]
    """the PyTorch modules it comes from"""
    nodes: list[str]
    time_s: float
    share: float
    macs: int | None
    bytes: float | None
    macs_per_s: float | None
    bytes_per_s: float | None
    limit: Literal["compute", "memory"] | None
    """which roof is the lower one"""
    of_limit: float | None
    """the share of that roof that it reaches"""


class Bandwidth(TypedDict):
    """Memory bandwidth at one working set."""

    touched_bytes: int
    bytes_per_s: float


class Peaks(TypedDict):
    """The roofs of the roofline, measured on this machine."""

    threads: int
    macs_per_s: float
    bytes_per_s: list[Bandwidth]
    method: str


class Profile(TypedDict):
    """Each layer's time, the slowest first."""

    layers: list[Layer]
    total_s: float
    runs: int
    peaks: Peaks | None
    notes: list[str]


class Pinned(TypedDict):
    """The cores and the priority that were in force."""

    cores: list[int] | None
    nice: int | None
    refused: list[str]
    """what the system did not allow"""


class Battery(TypedDict):
    """The first battery."""

    percent: int | None
    status: str | None


class Gpu(TypedDict):
    """One GPU at one moment."""

    name: str | None
    sm_clock_hz: int | None
    memory_clock_hz: int | None
    power_w: float | None
    temperature_c: int | None
    throttled: list[str]


class Snapshot(TypedDict):
    """The machine at one moment. Null: not readable."""

    time_s: float
    """since the first snapshot"""
    governors: list[str] | None
    frequencies_hz: list[int] | None
    """a core each"""
    temperatures_c: dict[str, float] | None
    """by the sensor's name"""
    throttle_count: int | None
    """thermal throttle events since boot"""
    throttled: list[str] | None
    other_load: float | None
    """the share of all cores' time that other processes used"""
    quota_periods: int | None
    """of a container's CPU quota so far; null: there is none"""
    quota_throttled: int | None
    """in how many of them the process stood still"""
    quota_cpus: float | None
    """seconds of CPU time a second"""
    battery: Battery | None
    gpus: list[Gpu] | None


class State(TypedDict):
    """The machine before, during and after the measurement."""

    before: Snapshot
    during: list[Snapshot]
    after: Snapshot
    unread: dict[str, str]
    """a snapshot's key → why it is null"""
    cost_s: float | None
    """the median time that one snapshot took"""


class Estimate(TypedDict):
    """A quantity with its interval; one round or one process alone has none."""

    value: float
    low: float | None
    high: float | None


class Throughput(TypedDict):
    """`--mode throughput`."""

    per_s: Estimate
    """runs a second, all streams together"""
    streams: int
    rounds: int


class Sustained(TypedDict):
    """`--mode sustained`: the first window against the last, and the line through all of them."""

    duration_s: float
    window_s: float
    first_p50_s: Interval | None
    last_p50_s: Interval | None
    ratio: Interval | None
    """last over first"""
    drift_per_minute: Interval
    """relative change of the median; 0.01: 1 % slower each minute"""
    verdict: Literal["holds", "slower", "faster", "unknown"]
    thermal: Literal["throttled", "not throttled", "unknown"]
    """whether heat is the cause"""
    thermal_reason: str


class Server(TypedDict):
    """`--mode server`: requests at random moments."""

    rate_per_s: float
    deadline_s: float
    requests: int
    misses: int
    missed_share: Estimate


class BenchSource(TypedDict):
    """What the bundle was exported from, as its manifest tells."""

    spec: str | None
    parameters: int | None


class StepsTimed(TypedDict):
    """What the runs of a model with memory were."""

    state: list[str]
    """the inputs that it is fed by"""
    bound: bool | None
    """true: each run was a step of a stream whose state stayed in the engine's memory; false: it was taken out and fed
    again; null: it was fed from outside, always the same"""


class Bench(TypedDict):
    """What was measured, on what, and what may be concluded from it."""

    schema: Literal[1]
    bundle: str
    source: NotRequired[BenchSource]
    device: Device
    runtime: RuntimeInForce
    placement: dict[str, int] | None
    """device → number of nodes"""
    placement_nodes: list[PlacedNode] | None
    latency: Latency
    stopped: Stopped | None
    cold_start: ColdStart
    harness: Harness
    speed: Speed | None
    run: CallPrice | None
    mode: Literal["latency", "throughput", "sustained", "server"]
    stream: StepsTimed | None
    """null: the model has no memory"""
    batch: int | None
    """samples in one run, as `--batch` asked"""
    throughput: NotRequired[Throughput]
    """with that mode"""
    sustained: NotRequired[Sustained]
    """with that mode"""
    server: NotRequired[Server]
    """with that mode"""
    throughput_per_s: float | None
    """runs a second of one process: 1 over the mean latency"""
    memory: Memory
    energy_j: Energy | None
    """a run"""
    profile: Profile | None
    """with `--profile`"""
    pinned: Pinned | None
    """with `--cores` or `--nice`"""
    verdict: Literal["steady", "noisy", "drifting"]
    reasons: list[str]
    """of the verdict, and warnings"""
    state: State | None
    samples: str | list[str] | None
    """the file of the raw latencies"""
    not_measured: dict[str, str]
    """the path of a key that is null → why"""
    result: NotRequired[str | None]
    """the id under which it is kept; null: it could not be kept"""
