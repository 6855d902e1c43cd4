"""A Hugging Face model, from a directory or the hub: class, task and example inputs as optimum's exporter knows them.

Code that a repository brings (``auto_map``, trust_remote_code) is never run; weights are safetensors, or a ``.bin``
that transformers opens with ``weights_only``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import EngineError, SourceError, UsageError, suggestion
from ..quiet import TORCH, quiet
from . import build
from .factory import example_from_flags
from .source import Source

DEFAULT_SEQUENCE = 128
_INSTALL = 'Install it: pip install -c constraints.txt -e ".[hf]"'


def load(spec: str, folder: Path | None, inputs: Sequence[str], dynamic: Sequence[str], task: str | None) -> Source:
    """Open the directory ``folder``, or fetch the hub's model ``spec`` where ``folder`` is None.

    Inputs are static unless ``dynamic`` frees them: batch 1, a sequence of 128 (or as long as the model takes), the
    image size of the config.

    Raises:
        SourceError, UsageError, EngineError: see `edgekit.sources.load.load_source`.
    """
    tasks = _tasks_manager()
    if folder is not None:
        _check_folder(spec, folder)
    elif not _is_cached(spec):
        _check_hub(spec)
    talking = (*TORCH, "transformers", "optimum", "huggingface_hub")
    with quiet(*talking, environment={"HF_HUB_DISABLE_PROGRESS_BARS": "1"}):
        config = _config(spec, folder)
        chosen = _task(tasks, config, task)
        module = _model(spec, folder, tasks, config, chosen)
        exporter = _exporter_config(tasks, module, chosen)
    prepared = build.prepare(module, owned=True)
    module = prepared.module
    usual = {(name, axis): dim for name, axes in exporter.inputs.items() for axis, dim in axes.items()}
    if inputs:
        args, kwargs, free = example_from_flags(module, inputs)
    else:
        args, free = (), []
        kwargs = _example(exporter, config)
    name = folder.resolve().name if folder is not None else spec.rpartition("/")[2]
    return build.from_module(
        spec,
        "huggingface",
        name,
        module,
        args,
        kwargs,
        dynamic=dynamic,
        free=free,
        usual=usual,
        description=f"{type(module).__name__}, task {chosen}",
        converted=prepared.converted,
        notes=prepared.notes,
        path=folder,
        made=tuple(kwargs),
    )


def _tasks_manager() -> Any:
    try:
        import optimum.exporters.onnx.model_configs  # noqa: F401  # registers what it knows of each model type
        import transformers  # noqa: F401
        from optimum.exporters.tasks import TasksManager
    except ImportError as error:
        raise EngineError(
            f"a Hugging Face model needs optimum, optimum-onnx and transformers: {error}", fix=_INSTALL
        ) from error
    return TasksManager


def _check_folder(spec: str, folder: Path) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise SourceError(
            f"{spec} is a folder without config.json, so it is not a Hugging Face model",
            fix="Name a file (model.onnx, model.pt2, net.py:build) or the folder that save_pretrained wrote.",
        )
    try:
        table = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{config} is not valid JSON: {error}") from error
    if not isinstance(table, dict) or "model_type" not in table:
        raise SourceError(f"{config} does not say its model_type, so it is not a config of transformers")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise SourceError(
            f"{spec} holds no weights (model.safetensors or pytorch_model.bin)",
            fix="Write it with model.save_pretrained(folder).",
        )


def _is_cached(spec: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(spec, "config.json"), str)


def _check_hub(spec: str) -> None:
    """Ask the hub for the model once, before transformers tries for half a minute.

    Raises:
        SourceError: the hub cannot be reached, or has no such model.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    download = f"hf download {spec} --local-dir model"
    try:
        HfApi().model_info(spec, timeout=10)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 404):
            raise SourceError(
                f"there is no file or folder '{spec}' here, and no public model of that name on {constants.ENDPOINT}",
                fix="A local directory is named by its path; for a private model, log in first: hf auth login",
            ) from error
        raise SourceError(f"{constants.ENDPOINT} refuses '{spec}': {' '.join(str(error).split())[:200]}") from error
    except (OfflineModeIsEnabled, OSError) as error:  # every connection error of requests is an OSError
        raise SourceError(
            f"'{spec}' is not a file or folder here, and the Hugging Face hub cannot be reached (offline?)",
            fix=f"Where there is a network: {download}; then give the directory: edgekit export model …",
        ) from error


def _config(spec: str, folder: Path | None) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            str(folder or spec), trust_remote_code=False, local_files_only=folder is not None
        )
    except (OSError, ValueError, KeyError) as error:
        raise _refusal(spec, folder, error) from error


def _refusal(spec: str, folder: Path | None, error: Exception) -> SourceError:
    text = " ".join(str(error).split())
    if "trust_remote_code" in text or "custom code" in text:
        return SourceError(
            f"{spec} brings Python code of its own, which edgekit does not run",
            fix="Read that code, then import it in a factory of your own: net.py:build",
        )
    if folder is None:
        return SourceError(
            f"the Hugging Face model '{spec}' is not here and cannot be fetched: {text[:200]}",
            fix=f"Name the directory that this makes where there is a network: hf download {spec} --local-dir model",
        )
    return SourceError(f"{spec} cannot be read: {text[:300]}")


def _task(tasks: Any, config: Any, task: str | None) -> str:
    """The task asked for, by optimum's name of it, else that of the architecture that the config names.

    Raises:
        UsageError: there is no such task, or the model's type does not support it.
    """
    import transformers

    if task is not None:
        known = list(tasks.get_all_tasks())
        found = str(tasks.map_from_synonym(task))
        if found not in known:
            raise UsageError(f"--task '{task}' is not known", fix=suggestion(task, known))
    else:
        classes = [getattr(transformers, name, None) for name in getattr(config, "architectures", None) or []]
        found = "feature-extraction"
        for cls in classes:
            with contextlib.suppress(ValueError):
                found = str(tasks.infer_task_from_model(cls))
                break
    try:
        supported = tasks.get_supported_tasks_for_model_type(config.model_type, "onnx", library_name="transformers")
    except KeyError as error:
        raise SourceError(
            f"optimum does not know how to export the model type '{config.model_type}'",
            fix="Give it as a factory that returns (model, example inputs): net.py:build",
        ) from error
    if found not in supported:
        message = f"the model type '{config.model_type}' has no export for the task '{found}'"
        raise UsageError(message, fix=f"--task takes: {', '.join(sorted(supported))}")
    return found


def _model(spec: str, folder: Path | None, tasks: Any, config: Any, task: str) -> torch.nn.Module:
    for part in (config, config.get_text_config()):
        part.use_cache = False  # a cache is an object, not a tensor
    try:
        loader = tasks.get_model_class_for_task(task, framework="pt", model_type=config.model_type)
        # Whatever precision it was saved in: float32 is the reference.
        model: torch.nn.Module = loader.from_pretrained(
            str(folder or spec),
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=folder is not None,
        )
    except Exception as error:  # each library behind it has its own
        raise _refusal(spec, folder, error) from error
    return model


def _exporter_config(tasks: Any, module: torch.nn.Module, task: str) -> Any:
    make = tasks.get_exporter_config_constructor("onnx", model=module, task=task, library_name="transformers")
    return make(module.config)


def _example(exporter: Any, config: Any) -> dict[str, Any]:
    """Example inputs as optimum makes them, the same on every call, only those that the exporter's config names."""
    text = config.get_text_config()
    longest = getattr(text, "max_position_embeddings", None) or DEFAULT_SEQUENCE
    # RoBERTa counts positions from its padding index + 1.
    longest -= (getattr(text, "pad_token_id", None) or 0) + 1 if "roberta" in config.model_type else 0
    import random

    import numpy as np

    states = random.getstate(), np.random.get_state()  # optimum draws from the global generators
    try:
        random.seed(0)
        np.random.seed(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = exporter.generate_dummy_inputs(
                framework="pt", batch_size=1, sequence_length=min(DEFAULT_SEQUENCE, longest)
            )
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return dict(made)
