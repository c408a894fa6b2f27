"""Loggers by name: `--trainer.logger=csv`, `tensorboard`, `wandb`, `mlflow`, `trackio`, `comet`, or several of them."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import reduce
from importlib.util import find_spec
from operator import or_
from pathlib import Path
from typing import Any, Literal, get_args

from jsonargparse import ArgumentParser
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CometLogger, CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from lightning_neft.errors import ConfigError

__all__ = ["USUAL", "LoggerName", "TrackioLogger", "accept_names", "build_loggers", "names_of", "run_tags"]

LoggerName = Literal["csv", "tensorboard", "wandb", "mlflow", "trackio", "comet"]
USUAL: tuple[LoggerName, ...] = ("csv", "tensorboard")
"""Those of a run that names none; they write into its folder."""

# The packages to import and to install; those of the first two are dependencies.
_PACKAGES: dict[LoggerName, str] = {"wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio", "comet": "comet_ml"}
# Of servers, where runs of all kinds are.
_PROJECT = "lightning_neft"


def accept_names(parser: ArgumentParser) -> None:
    """Let `trainer.logger` be a name or a list of names, besides what Lightning accepts."""
    for action in parser._actions:
        if action.dest == "trainer.logger":
            known = (LoggerName, list[LoggerName], *get_args(action._typehint))  # type: ignore[attr-defined]
            action._typehint = reduce(or_, known)  # type: ignore[attr-defined]


def names_of(value: Any) -> list[LoggerName] | None:
    """Return the names that an option of the Trainer holds; None if it holds loggers, or turns them off.

    Raises:
        ConfigError: If the package of one is not installed.
    """
    given = [value] if isinstance(value, str) else value
    if value is None or value is True:
        return [*USUAL]
    if not isinstance(given, list) or not given or not all(isinstance(name, str) for name in given):
        return None
    for name in given:
        package = _PACKAGES.get(name)
        if package is not None and find_spec(package) is None:
            raise ConfigError(f"trainer.logger={name} needs {package}: pip install {package}")
    return list(dict.fromkeys(given))


def run_tags(config: Any, sources: Sequence[str], recipe: str | None) -> dict[str, str]:
    """Return what a run is of, for servers that search by it; of paths the last part alone.

    Args:
        config: The config of the run.
        sources: Sources of its data.
        recipe: Name of its recipe, if it has one.

    Example:
        >>> from jsonargparse import Namespace
        >>> config = Namespace(model=Namespace(base="/x/smollm2", lora=None), neftune=None)
        >>> run_tags(config, ["alpaca"], "smollm2/alpaca")
        {'recipe': 'smollm2/alpaca', 'base': 'smollm2', 'data': 'alpaca', 'alpha': 'none', 'method': 'full'}
    """
    found = {"recipe": recipe} if recipe else {}
    return {
        **found,
        "base": Path(config.model.base).name,
        "data": "+".join(Path(source).name for source in sources),
        "alpha": "none" if config.neftune is None else str(config.neftune.alpha).removesuffix(".0"),
        "method": "full" if config.model.lora is None else "lora",
    }


def build_loggers(
    names: Sequence[LoggerName], root: str, name: str, version: int, tags: Mapping[str, str]
) -> list[Logger]:
    """Return the loggers of these names; all but comet's connect to a server, or write, at the first value only.

    Each package's environment variables hold: addresses, keys, projects, offline modes. Keys are read by the packages
    alone and are part of no config.

    Args:
        names: Their names.
        root: Folder of all runs.
        name: Name of the run.
        version: Number of the run among those of its name.
        tags: See `run_tags`.
    """
    run = f"{name}/version_{version}"
    words = [f"{key}={value}"[:64] for key, value in tags.items()]  # the most that wandb takes
    built: list[Logger] = []
    for kind in names:
        if kind == "csv":
            built.append(CSVLogger(root, name=name, version=version))
        elif kind == "tensorboard":
            built.append(TensorBoardLogger(root, name=name, version=version))
        elif kind == "wandb":
            project = os.environ.get("WANDB_PROJECT", _PROJECT)
            built.append(WandbLogger(name=run, project=project, group=name, tags=words, save_dir=root))
        elif kind == "mlflow":
            experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
            # Without a server a database in the folder of all runs: mlflow 3 advises against its store of files.
            uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(root).absolute()}/mlflow.db"
            built.append(MLFlowLogger(experiment, run_name=run, tracking_uri=uri, tags=dict(tags)))
        elif kind == "trackio":
            built.append(TrackioLogger(os.environ.get("TRACKIO_PROJECT", _PROJECT), run, name, dict(tags)))
        elif kind == "comet":
            project = os.environ.get("COMET_PROJECT_NAME", _PROJECT)
            # Where it writes without a server; it makes one folder, but not those above.
            offline = Path(root, "comet")
            offline.mkdir(parents=True, exist_ok=True)
            options: dict[str, Any] = {"name": run, "tags": words, "offline_directory": str(offline)}
            built.append(CometLogger(project=project, **options))
    return built


class TrackioLogger(Logger):
    """Logs to trackio, which Lightning 2.6 has no logger for: a local database, or a Space of the hub.

    Args:
        project: Name of the project.
        run: Name of the run.
        group: Group of the run.
        tags: What the run is of; its config in trackio.
    """

    def __init__(self, project: str, run: str, group: str | None = None, tags: dict[str, str] | None = None) -> None:
        super().__init__()
        self._project, self._run_name, self._group, self._tags = project, run, group, tags or {}
        self._run: Any = None

    @property
    @override
    def name(self) -> str:
        return self._project

    @property
    @override
    def version(self) -> str:
        return self._run_name

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of trackio; made when it is first asked for."""
        if self._run is None:
            import trackio

            self._run = trackio.init(self._project, self._run_name, self._group, config=self._tags, embed=False)
        return self._run

    @override
    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self.experiment.config.update(params if isinstance(params, dict) else vars(params))

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step=step)

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._run is not None:
            import trackio

            trackio.finish()
            self._run = None
