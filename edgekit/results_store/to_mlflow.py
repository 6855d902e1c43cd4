"""Results in MLflow, for those who keep their experiments there: https://mlflow.org."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, UsageError

if TYPE_CHECKING:
    from . import Record

EXPERIMENT = "edgekit"
INSTALL = 'pip install "edgekit[mlflow]"'
_MAX_TAG = 5000  # MLflow refuses longer values


def log_to_mlflow(record: Record, uri: str = "") -> str:
    """Log a kept result as a run of the experiment ``edgekit``, with its files as artifacts.

    Args:
        record: the result.
        uri: a tracking URI (``http://…``, ``sqlite:///…``, ``file:…``); empty: ``MLFLOW_TRACKING_URI``, or else
            MLflow's own default, a store in this folder.

    Returns:
        One line on where it went.

    Raises:
        EngineError: MLflow is not installed, or the tracking server does not answer or refuses.
        UsageError: not a tracking URI.
    """
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise EngineError("--mlflow needs mlflow, which is not installed", fix=INSTALL) from error
    try:
        client = mlflow.MlflowClient(tracking_uri=uri or None)
        place = uri or mlflow.get_tracking_uri()
        found = client.get_experiment_by_name(EXPERIMENT)
        experiment = client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
        run = client.create_run(experiment, run_name=f"{record.kind} {record.id}", tags=dict(_tags(record)))
        for name, value in _parameters(record.value):
            client.log_param(run.info.run_id, name, value)
        for name, number in metrics(record.value):
            client.log_metric(run.info.run_id, name, number)
        _log_files(client, run.info.run_id, record)
        client.set_terminated(run.info.run_id)
    except MlflowException as error:
        if "URI" in str(error) and "unsupported" in str(error).lower():
            raise UsageError(f"'{uri}' is not an MLflow tracking URI: {error}") from error
        raise EngineError(f"MLflow at '{uri or 'its default store'}' refused the result: {error}") from error
    return f"Logged to MLflow: {place}, experiment '{EXPERIMENT}', run {run.info.run_id}"


def metrics(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a command's object, by the path to it: ``latency.p50_s.value``."""
    for key, item in value.items():
        if key in ("schema", "source", "device", "stages", "tolerance", "options", "in_force"):
            continue
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            yield from metrics(item, f"{name}.")
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield _legal(name), float(item)


def _parameters(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    runtime = value.get("runtime")
    settings = {**runtime.get("options", {}), "runtime": runtime.get("name")} if isinstance(runtime, Mapping) else {}
    named = {key: value[key] for key in ("bundle", "target", "chosen", "data") if isinstance(value.get(key), str)}
    for name, item in {**named, **settings}.items():
        yield _legal(name), str(item)[:500]


def _tags(record: Record) -> Iterator[tuple[str, str]]:
    facts = {
        "result": record.id,
        "kind": record.kind,
        "bundle_sha256": record.bundle_sha256,
        "device_fingerprint": record.fingerprint,
        "verdict": record.value.get("verdict"),
        **{f"version.{name}": version for name, version in record.versions.items()},
    }
    for name, item in facts.items():
        if item is not None:
            yield _legal(f"edgekit.{name}"), str(item)[:_MAX_TAG]


def _log_files(client: Any, run: str, record: Record) -> None:
    """The result's folder; of one that could not be kept, its object alone."""
    if record.folder is not None and record.folder.is_dir():
        client.log_artifacts(run, str(record.folder))
        return
    from ..plain import to_json

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "result.json")
        path.write_text(to_json(record.to_json()), encoding="utf-8")
        client.log_artifact(run, str(path))


def _legal(name: str) -> str:
    """``name`` with what MLflow does not take in a name replaced by an underscore."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-. /:") else "_" for letter in name)
