"""ONNX Runtime on Qualcomm's Hexagon NPU (HTP), by the plug-in execution provider of the package onnxruntime-qnn.

On x86 its libraries compile for a phone's NPU and then emulate it: results are the NPU's to within a rounding step, and
the time they take says nothing. So an emulated session says that it is one, and nothing measures it.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, ClassVar

from ..contracts import Artifact, Placement, Session
from ..errors import EngineError
from ._htp import DEVICE, HtpSession, reasons, refused
from ._native_output import caught_output
from ._ort import OrtSession, import_onnxruntime, open_session
from ._values import engine_errors, import_engine

ANY = "*"
"""In ``fallback``: every operator. For looking at what the NPU refuses; nothing is shipped with it."""
SOCS = {43: "Snapdragon 8 Gen 2", 57: "Snapdragon 8 Gen 3", 69: "Snapdragon 8 Elite", 87: "Snapdragon 8 Elite Gen 5"}
"""QNN's number → the SoC. Source: QNN SDK reference, "Supported Snapdragon devices", column SoC Model; the same numbers
stand in ExecuTorch's backends/qualcomm/serialization/qc_schema.py."""
EMULATED_SOC = 43
"""What is emulated where no SoC is stated: the oldest, as the newer ones run what it runs."""
SOC_KEY = "edgekit.soc_model"
"""Metadata of a context file: the SoC that it was compiled for."""

_PROVIDER = "QNNExecutionProvider"
_PERFORMANCE = (
    "default", "burst", "sustained_high_performance", "high_performance", "balanced", "low_balanced",
    "high_power_saver", "power_saver", "low_power_saver", "extreme_power_saver",
)  # fmt: skip
_STRICT = "fallback to CPU EP has been explicitly disabled"
_opened_for: int | None = None  # this process' SoC: the libraries keep the first that they were told


class OnnxRuntimeQnn:
    """Opens QDQ and float ONNX files, and context binaries, on the HTP."""

    name = "onnxruntime_qnn"
    formats = ("qnn-context", "onnx")
    install = "pip install onnxruntime-qnn"
    on_the_device = """## On the device

Nothing of Qualcomm's lies in this bundle: its licence does not let its libraries be passed on by themselves. They come
with the engine's package, of the QNN release that compiled the model (`manifest.json`: `source.export`) or a later one:

- Windows and Linux on Snapdragon, with Python: `pip install onnxruntime-qnn`, and run this bundle as above.
- Android apps: `com.microsoft.onnxruntime:onnxruntime-android-qnn` and `com.qualcomm.qti:qnn-runtime` of Maven Central;
  load `model/model.onnx` with the provider QNN, its files beside it. This way was not tried here."""
    # Operator → what to write instead, of those that the HTP is known to refuse or to get wrong.
    advice: ClassVar[Mapping[str, str]] = {
        "Erf": "Use GELU's tanh form",
        "Einsum": "Write it as a product of matrices (torch.matmul)",
        "PRelu": "Use LeakyReLU or ReLU",
        "GatherND": "Index one axis at a time",
        "CumSum": "Write it as a product with a triangular matrix",
    }

    @dataclass(frozen=True, slots=True)
    class Options:
        """Session options."""

        threads: int = 0  # for nodes on the CPU, where `fallback` allows any; 0: ONNX Runtime's choice
        soc_model: int = 0  # QNN's number of the SoC; 0: the device's own (emulated: `EMULATED_SOC`)
        performance: str = "burst"  # the HTP's clocks: "burst" is the fastest, "default" leaves them to the system
        fp16: bool = True  # floating-point operators compute in fp16
        finalization: int = 3  # 0 to 3: how long the compiler may look for a faster graph
        fallback: tuple[str, ...] = ()  # operators that may run on the CPU
        context_file: str = ""  # write what was compiled to this ONNX file, its binary beside it

        def __post_init__(self) -> None:
            for name in ("threads", "soc_model"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
            if self.performance not in _PERFORMANCE:
                raise ValueError(f"performance must be one of {', '.join(_PERFORMANCE)}, got '{self.performance}'")
            if not 0 <= self.finalization <= 3:
                raise ValueError(f"finalization must be 0 to 3, got {self.finalization}")

    def version(self) -> str:
        """The version of onnxruntime-qnn; that its libraries load is part of the answer."""
        return str(self._engine()[1].__version__)

    def emulator(self) -> str | None:
        """See contracts.Emulated. No x86 machine has a Hexagon NPU."""
        return "Qualcomm's HTP emulator" if platform.machine().lower() in ("x86_64", "amd64") else None

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See contracts.Runtime.open. A process serves one SoC.

        Raises:
            PlacementError: the HTP refuses operators that ``fallback`` does not name; with its reasons.
        """
        ort, qnn = self._engine()
        _refuse_free_dimensions(artifact)
        soc = self._claim_soc(options.soc_model)

        def look() -> Placement:
            """Where each node would run if all might run anywhere, and why: the reasons are in a log of everything."""
            free = replace(options, context_file="", fallback=(ANY,))
            with caught_output() as caught:
                opened = _open(ort, qnn, artifact, free, soc, log_severity=0)
            found = HtpSession(opened, {}, reasons(caught.text)).placement()
            opened.close()
            return found

        try:
            with caught_output():
                opened = _open(ort, qnn, artifact, options, soc)
        except EngineError as error:
            if _STRICT not in error.what:
                raise _explained(error, artifact, soc) from error
            raise refused(look(), ()) or error from error
        session = HtpSession(opened, self._settings(options, soc), {})
        if set(session.placement().counts()) != {DEVICE}:
            told = look()
            misplaced = None if ANY in options.fallback else refused(told, options.fallback)
            if misplaced is not None:
                session.close()
                raise misplaced
            session = HtpSession(opened, self._settings(options, soc), {n.name: n.reason or "" for n in told.nodes})
        _refuse_foreign(session, artifact, soc)
        return session

    def _engine(self) -> tuple[ModuleType, ModuleType]:
        """Onnxruntime and onnxruntime_qnn, with the provider registered.

        Raises:
            EngineError: one is missing, too old, or its libraries cannot be loaded here.
        """
        ort = import_onnxruntime(self.install)
        qnn = import_engine("onnxruntime_qnn", self.install)
        if not hasattr(ort, "get_ep_devices"):
            raise EngineError(
                f"onnxruntime {ort.__version__} takes no plug-in execution providers",
                fix="Update it: pip install -U onnxruntime",
            )
        if not _devices(ort):
            try:
                with caught_output():
                    ort.register_execution_provider_library(_PROVIDER, qnn.get_library_path())
            except Exception as error:
                raise EngineError(
                    f"onnxruntime-qnn {qnn.__version__} cannot be loaded: {error}",
                    fix="It needs glibc 2.35 or later, and libatomic: apt install libatomic1",
                ) from error
        return ort, qnn

    def _claim_soc(self, wanted: int) -> int:
        global _opened_for
        soc = wanted or (EMULATED_SOC if self.emulator() else 0)
        if _opened_for not in (None, soc):
            raise EngineError(
                f"this process has opened a model for soc_model {_opened_for}, and QNN keeps that; got {soc}",
                fix="Open it in a process of its own.",
            )
        _opened_for = soc
        return soc

    def _settings(self, options: Options, soc: int) -> dict[str, Any]:
        return {
            "precision": "as the graph says" + (", floating point in fp16" if options.fp16 else ""),
            "soc_model": soc or None,
            "performance": options.performance,
            "fallback": list(options.fallback),
            "emulated": self.emulator(),
        }


def _open(
    ort: ModuleType, qnn: ModuleType, artifact: Artifact, options: OnnxRuntimeQnn.Options, soc: int, **how: int
) -> OrtSession:
    native = ort.SessionOptions()
    native.intra_op_num_threads = options.threads
    native.add_session_config_entry("session.disable_cpu_ep_fallback", "0" if options.fallback else "1")
    if options.context_file:
        native.add_session_config_entry("ep.context_enable", "1")
        native.add_session_config_entry("ep.context_file_path", options.context_file)
        native.add_session_config_entry("ep.context_embed_mode", "0")
    asked = {
        "backend_path": qnn.get_qnn_htp_path(),
        "htp_performance_mode": options.performance,
        "htp_graph_finalization_optimization_mode": str(options.finalization),
        "enable_htp_fp16_precision": "1" if options.fp16 else "0",
        "offload_graph_io_quantization": "0",  # the graph's own ends would go to the CPU
        **({"soc_model": str(soc)} if soc else {}),
    }
    with engine_errors("ONNX Runtime refuses the HTP"):
        native.add_provider_for_devices(_devices(ort), asked)
    return open_session(ort, artifact, native, None, **how)


def _devices(ort: Any) -> list[Any]:
    return [device for device in ort.get_ep_devices() if device.ep_name == _PROVIDER]


def _refuse_free_dimensions(artifact: Artifact) -> None:
    for spec in artifact.inputs:
        if any(isinstance(size, str) for size in spec.shape):
            raise EngineError(
                f"the HTP takes static shapes only, but input '{spec}' has a free dimension",
                fix="Export without --dynamic, or fix its size with --input.",
            )


def _refuse_foreign(session: HtpSession, artifact: Artifact, soc: int) -> None:
    """Refuse a context binary of another SoC: the emulator would run it and prove nothing."""
    told = session.metadata().get(SOC_KEY)
    if told is not None and soc and told != str(soc):
        session.close()
        raise EngineError(
            f"{artifact.path.name} was compiled for {soc_name(int(told))}, and is opened for {soc_name(soc)}",
            fix="Export for this device: each SoC has its own target (edgekit targets list).",
        )


def _explained(error: EngineError, artifact: Artifact, soc: int) -> EngineError:
    """The engine's error with what it means here."""
    if "MEM_ALLOC" in error.what:
        note = "the HTP's compiler also says so of operators that it cannot compile; memory is seldom the cause"
        return EngineError(error.what, details=[*error.details, note], fix=error.fix)
    if artifact.format == "qnn-context":
        return EngineError(
            error.what,
            details=error.details,
            fix=f"A context binary belongs to its SoC ({soc_name(soc)}) and QNN release: export for this device.",
        )
    return error


def soc_name(soc: int) -> str:
    """``Snapdragon 8 Elite (soc_model 69)``."""
    return f"{SOCS[soc]} (soc_model {soc})" if soc in SOCS else f"soc_model {soc}"


PLUGIN = OnnxRuntimeQnn
