"""Open a bundle: check it whole, then run it. Reading one never executes anything in it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..contracts import Artifact, Concurrent, Feeds, Outputs, Placement, Session, StatePair, TensorSpec, options_from
from ..errors import BundleError, EngineError, suggestion
from ..measure import npz
from ..measure.engines import load_runtime
from ..measure.ignore import blank
from ..measure.parity import Parity, ParityMeter
from ..measure.stream import Stream, first_state
from .feeds import readable
from .manifest import LAYERS, MANIFEST, MAX_MANIFEST_BYTES, STATE, FileRecord, Manifest, file_names

if TYPE_CHECKING:  # Python 3.11 has it, a device may have 3.10
    from typing import Self  # novm

_CHUNK = 1 << 20
_CACHES = "__pycache__"  # Python's own, written when an app imports a bundle's runner; never packed, never read here


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare a folder with its manifest: every file there with its size and hash, no link, nothing else.

    Raises:
        BundleError: names the file that is missing, changed, a link, or not listed.
    """
    found = dict(_walk(folder))
    found.pop(MANIFEST, None)
    missing = sorted(set(manifest.files) - set(found))
    if missing:
        raise BundleError(f"'{folder}' is not complete: {file_names(missing)} missing", fix=_EXPORT_AGAIN)
    extra = sorted(set(found) - set(manifest.files))
    if extra:
        raise BundleError(f"'{folder}' holds {file_names(extra)}, not listed in {MANIFEST}", fix="Delete or move it.")
    for name, record in manifest.files.items():
        changed = _difference(found[name], record)
        if changed:
            raise BundleError(f"'{name}' in '{folder}' is damaged: {changed}", fix=_EXPORT_AGAIN)


_EXPORT_AGAIN = "Copy it again from where it came, or export it again."


def hash_file(path: Path) -> FileRecord:
    """The SHA-256 and size of a file, read in chunks."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        return FileRecord(digest.hexdigest(), file.tell())


def _difference(path: Path, record: FileRecord) -> str | None:
    size = path.stat().st_size
    if size != record.size_bytes:
        return f"{size} bytes, expected {record.size_bytes}"
    return None if hash_file(path) == record else "its SHA-256 is not the manifest's"


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name in the bundle and path of every file, refusing links and special files."""
    for parent, folders, files in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if name != _CACHES or Path(parent, name).is_symlink()]
        for item in (*folders, *files):
            path = Path(parent, item)
            name = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise BundleError(f"'{name}' in '{folder}' is a link: a bundle holds none")
            if stat.S_ISREG(mode):
                yield name, path
            elif not stat.S_ISDIR(mode):
                raise BundleError(f"'{name}' in '{folder}' is not a regular file")


def _refuse_unreadable(error: OSError) -> None:
    raise BundleError(f"cannot read '{error.filename}': {error.strerror}") from error


def _manifest_bytes(folder: Path) -> bytes:
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"'{folder}' is not a bundle: it holds no {MANIFEST}")
    with path.open("rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"'{path}' is larger than {MAX_MANIFEST_BYTES} bytes")
    return data


def open_folder(
    folder: Path, *, verify: bool = True, path: Path | None = None, cleanup: contextlib.ExitStack | None = None
) -> Bundle:
    """Open a bundle that lies in a folder. `edgekit.open_bundle` also takes a packed one.

    Args:
        folder: where its files lie.
        verify: see `edgekit.open_bundle`.
        path: what the user named, where that is not the folder.
        cleanup: is closed with the bundle.

    Raises:
        BundleError: not a bundle, or damaged, or unsafe; names the file.
    """
    if not folder.is_dir():
        raise BundleError(f"'{folder}' does not exist", fix="Name a bundle's folder or its .edgekit.zip.")
    data = _manifest_bytes(folder)
    manifest = Manifest.loads(data)
    if verify:
        check_files(folder, manifest)
    return Bundle(path or folder, folder, manifest, hashlib.sha256(data).hexdigest(), cleanup or contextlib.ExitStack())


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The golden inputs through the engine against PyTorch's outputs for them."""

    parity: Parity
    misses: tuple[str, ...]  # every bound of the manifest's tolerance that does not hold
    engine_version: str
    stream: Parity | None = None  # of a model with memory: frame after frame with its own state

    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return not self.misses


class Bundle:
    """An open bundle. A context manager: leaving it deletes what a zip was unpacked into.

    Attributes:
        path: what was named: a folder or a zip.
        folder: where its files lie.
        manifest: the content of manifest.json.
        sha256: of manifest.json, which holds the hash of every other file: the identity of the bundle.
    """

    def __init__(
        self, path: Path, folder: Path, manifest: Manifest, sha256: str, cleanup: contextlib.ExitStack
    ) -> None:
        self.path = path
        self.folder = folder
        self.manifest = manifest
        self.sha256 = sha256
        self._cleanup = cleanup

    @property
    def artifact(self) -> Artifact:
        """What the engine loads."""
        manifest = self.manifest
        return Artifact(
            path=self.folder / manifest.artifact_file,
            format=manifest.artifact_format,
            precision=manifest.precision,
            inputs=manifest.inputs,
            outputs=manifest.outputs,
            state=manifest.state,
        )

    @property
    def expected_placement(self) -> Mapping[str, int]:
        """Device → number of nodes, where it was exported."""
        return self.manifest.placement

    @property
    def layers_file(self) -> Path:
        """What `measure.profile` reads to map an engine's nodes back to the graph; bundles without it are older."""
        return self.folder / LAYERS

    @property
    def size_bytes(self) -> int:
        """Of all files, the manifest aside."""
        return sum(record.size_bytes for record in self.manifest.files.values())

    @property
    def model_bytes(self) -> int:
        """Of the artifact's files."""
        return sum(record.size_bytes for name, record in self.manifest.files.items() if name.startswith("model/"))

    def options(self, **overrides: Any) -> dict[str, Any]:
        """The session options that were measured, with ``overrides`` in their place."""
        return {**self.manifest.runtime.options, **overrides}

    def session(self, *, substitute: bool = False, **overrides: Any) -> Model:
        """Open the model in its engine with the session options that were measured.

        Args:
            substitute: open it in the runtime that checked it where its engine could not run, with that one's defaults.
            overrides: session options to change: ``threads=2``.

        Raises:
            EngineError: the engine is not installed, or refuses the model; or there is no substitute for it.
            UsageError: an option that the runtime does not have.
        """
        name, table, artifact = self.manifest.runtime.name, self.options(**overrides), self.artifact
        if substitute:
            if self.manifest.checked_with is None:
                raise EngineError(f"'{self.path}' was checked with {name} itself: it has no substitute for it")
            name, table = self.manifest.checked_with.name, {**self.manifest.checked_with.options, **overrides}
        runtime = load_runtime(name)
        version = runtime.version()
        options = options_from(runtime.Options, table, f"options of runtime '{name}'")
        if substitute:
            artifact = dataclasses.replace(artifact, format=runtime.formats[0])
        session = runtime.open(artifact, options)
        state = self.manifest.state
        if not state:
            return Model(session, version)
        return StatefulModel(session, version, self.manifest.inputs, state, self.first_state())

    def first_state(self) -> Feeds:
        """The state before the first frame, by the inputs' names, where that is not zero.

        Raises:
            BundleError: it cannot be read.
        """
        return self._arrays(STATE) if STATE in self.manifest.files else {}

    def golden_stream(self) -> list[tuple[Feeds, Outputs]]:
        """The first frames of a stream in order, without the state, each with PyTorch's outputs that are none.

        Raises:
            BundleError: they cannot be read.
        """
        names = (f"golden/stream/{index}" for index in range(self.manifest.golden_steps))
        return [(self._arrays(f"{name}.inputs.npz"), self._arrays(f"{name}.outputs.npz")) for name in names]

    def golden(self) -> list[tuple[Feeds, Outputs]]:
        """A few real inputs, each with PyTorch's outputs for it.

        Raises:
            BundleError: they cannot be read.
        """
        samples: list[tuple[Feeds, Outputs]] = []
        for index in range(self.manifest.golden_samples):
            inputs, outputs = (self._arrays(f"golden/{index}.{kind}.npz") for kind in ("inputs", "outputs"))
            samples.append((inputs, outputs))
        return samples

    def self_test(self, *, substitute: bool = False, **overrides: Any) -> SelfTest:
        """Run the golden inputs through the engine here, or its substitute, and compare with PyTorch's outputs.

        The tolerance is the manifest's on every machine: one that is wider elsewhere would pass what export refuses.

        Raises:
            EngineError: the engine is not installed, or refuses the model or an input.
        """
        meter = ParityMeter()
        with self.session(substitute=substitute, **overrides) as model:
            for feeds, expected in self.golden():
                meter.add(expected, blank(self.manifest.ignore, feeds, model.run(feeds)))
            parity = meter.result()
            misses = parity.misses(self.manifest.golden_tolerance)
            stream = self._test_stream(model) if self.manifest.golden_steps else None
            if stream is not None:
                told = stream.misses(self.manifest.golden_steps_tolerance)
                misses += [f"a stream of {stream.samples} steps: {miss}" for miss in told]
            return SelfTest(parity, tuple(misses), model.engine_version, stream)

    def _test_stream(self, model: Model) -> Parity:
        meter = ParityMeter()
        with model.stream() as stream:
            for frame, expected in self.golden_stream():
                meter.add(expected, stream.run(frame))
        return meter.result()

    def close(self) -> None:
        """Delete temporary files, if any; a second call does nothing."""
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _arrays(self, name: str) -> dict[str, Any]:
        if name not in self.manifest.files:
            raise BundleError(
                f"{MANIFEST} states {self.manifest.golden_samples} golden samples, but '{name}' is not there"
            )
        try:
            return dict(npz.load(self.folder / name))
        except (OSError, ValueError, MemoryError) as error:
            raise BundleError(f"'{name}' in '{self.path}' cannot be read: {error}") from error


class Model:
    """A bundle's model, open in its engine: a `contracts.Session` that is a context manager.

    Any number of threads may call `run`, and what `bind` returned: each gets its own answer. Engines that can do so run
    them at once (`contracts.Concurrent`), in the others they wait for each other.

    Args:
        session: open, and used by nobody else.
        engine_version: its engine's.
    """

    def __init__(self, session: Session, engine_version: str) -> None:
        self._session = session
        self._turn = threading.Lock()
        self._concurrent = isinstance(session, Concurrent) and session.concurrent
        self.engine_version = engine_version

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape of each input."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape of each output."""
        return self._session.outputs

    def run(self, feeds: Feeds) -> Outputs:
        """Input name → array in, output name → array out.

        Raises:
            EngineError: an input is missing, unknown or does not fit, or the engine fails.
        """
        feeds = readable(feeds)
        if self._concurrent:
            return self._session.run(feeds)
        with self._turn:
            return self._session.run(feeds)

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See contracts.Session.bind. The arrays, and what the call returns, belong to one thread at a time."""
        feeds = readable(feeds)
        if self._concurrent:
            return self._session.bind(feeds)
        with self._turn:
            call = self._session.bind(feeds)

        def in_turn() -> object:
            with self._turn:
                return call()

        return in_turn

    def stream(self, initial: Feeds | None = None) -> Stream:
        """Frame after frame of a model with memory: see `measure.stream.Stream`.

        Raises:
            EngineError: this model has none.
        """
        raise EngineError(
            "this model has no memory: a run depends on its inputs alone",
            fix="Call run; or name its state when it is exported: --state OUT=IN",
        )

    def placement(self) -> Placement:
        """Node by node where it runs."""
        return self._session.placement()

    def in_force(self) -> dict[str, Any]:
        """The session settings in force, read back from the engine."""
        return self._session.in_force()

    def close(self) -> None:
        """Free the engine's memory; no thread may be in `run` any more. A second call does nothing."""
        with self._turn:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StatefulModel(Model):
    """A model with memory. `stream` keeps it from frame to frame; each `run` begins anew.

    State that is an argument of the user's ``forward`` is fed to `run` and comes out of it, like all else. State that
    ``forward`` keeps in buffers is no argument: in a `run` it is what it was before the first frame, and comes out only
    where it was fed.
    """

    def __init__(
        self,
        session: Session,
        engine_version: str,
        specs: Sequence[TensorSpec],
        state: Sequence[StatePair],
        initial: Feeds,
    ) -> None:
        super().__init__(session, engine_version)
        self._specs, self._state, self._initial = tuple(specs), tuple(state), initial
        self._buffers = tuple(pair for pair in state if pair.buffer)
        self._inner = {pair.input for pair in self._buffers} | {pair.output for pair in self._buffers}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape of each input of ``forward``."""
        return tuple(spec for spec in self._session.inputs if spec.name not in self._inner)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape of each output of ``forward``."""
        return tuple(spec for spec in self._session.outputs if spec.name not in self._inner)

    @property
    def state(self) -> tuple[StatePair, ...]:
        """What goes from one run to the next."""
        return self._state

    def run(self, feeds: Feeds) -> Outputs:
        """See `Model.run`; one frame, with the first state where none is fed."""
        feeds = readable(feeds)
        outputs = super().run(self._whole(feeds))
        for pair in self._buffers:
            if pair.input not in feeds:
                outputs.pop(pair.output, None)
        return outputs

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See `Model.bind`."""
        return super().bind(self._whole(readable(feeds)))

    def stream(self, initial: Feeds | None = None) -> Stream:
        """A new stream: ``with model.stream() as s: out = s.run(frame)``.

        The state stays where the engine has it from frame to frame. A stream belongs to one caller; streams of one
        model are independent, and threads may run theirs at the same time.

        Args:
            initial: the state before the first frame, by the inputs' names, where it is not what was exported.

        Raises:
            EngineError: ``initial`` names what is no state, or cannot be read.
        """
        given = readable(initial) if initial is not None else {}
        states = [pair.input for pair in self._state]
        for name in given:
            if name not in states:
                raise EngineError(f"the model has no state '{name}'", fix=suggestion(str(name), states))
        first = {**self._initial, **given}
        return _AppStream(self._session, self._specs, self._state, first, None if self._concurrent else self._turn)

    def _whole(self, feeds: Feeds) -> Feeds:
        missing = [pair for pair in self._buffers if pair.input not in feeds]
        return {**first_state(missing, self._specs, self._initial, feeds), **feeds} if missing else feeds


class _AppStream(Stream):
    """A stream that takes what apps pass."""

    def run(self, frame: Feeds) -> Outputs:
        """See `Stream.run`."""
        return super().run(readable(frame))

    def bind(self, frame: Feeds) -> Callable[[], object]:
        """See `Stream.bind`."""
        return super().bind(readable(frame))
