"""`study --write-recipe`: the config of a study with the alpha that its evidence supports."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import yaml

from lightning_neft.common.files import write_text
from lightning_neft.common.paths import check_output, file_in_the_way, user_path
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from argparse import Namespace

    from lightning_neft.evaluation.choice import Choice
    from lightning_neft.evaluation.study_result import StudyResult

__all__ = ["check_recipe_path", "write_recipe"]

_SUFFIXES = (".yaml", ".yml")
_WIDTH = 110


def check_recipe_path(options: Namespace) -> Path | None:
    """Return the file that --write-recipe names; None without the option.

    Raises:
        ConfigError: The file exists or cannot be written, its name does not end in .yaml, or there are too few seeds.
    """
    from lightning_neft.evaluation.bootstrap import MIN_SEEDS

    if options.write_recipe is None:
        return None
    path = user_path(options.write_recipe, "--write-recipe")
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"--write-recipe {path}: give a file whose name ends in .yaml")
    # Before the arms, which take hours.
    if file := file_in_the_way(path.parent):
        raise ConfigError(f"--write-recipe {path}: {file} is a file; give a writable folder")
    if check_output(path, "--write-recipe").exists():
        raise ConfigError(f"--write-recipe {path} exists; give another name, or remove it")
    if (count := len(options.seeds)) < MIN_SEEDS:
        raise ConfigError(
            f"--write-recipe needs --seeds {MIN_SEEDS} or more, got {count}: fewer are no evidence for an alpha"
        )
    return path


def write_recipe(
    path: Path,
    described: Mapping[str, Any],
    study: StudyResult,
    choice: Choice,
    provenance: Mapping[str, Any],
    where: Path,
) -> None:
    """Write the recipe.

    Args:
        path: The file.
        described: What the first process of the study reported: `options`, those of the arms that are not defaults,
            whose card is kept if there is one, and `hardware`.
        study: The study.
        choice: The alpha.
        provenance: That of the result of the study.
        where: The result of the study.
    """
    config, hardware = described["options"], described["hardware"]
    versions = {name: provenance["versions"][name] for name in ("torch", "lightning", "transformers")}
    arms = study.of_alpha(choice.alpha)
    losses = [arm.held_out_loss for arm in arms if arm.held_out_loss is not None]
    data = f"data of digest {provenance['settings']['data_digest'][:12]}"
    alphas = ", ".join(f"{alpha:g}" for alpha in study.alphas)
    reference = f"Study {where}, {len(arms)} seeds, alphas {alphas}, on {data}: {choice.reason}; " + ", ".join(
        f"{name} {version}" for name, version in versions.items()
    )
    recipe = {key: value for key, value in config.items() if key != "card"}
    recipe["neftune"] = {**(config.get("neftune") or {}), "alpha": choice.alpha}
    header = ["Written by a study.", f"Alpha {choice.alpha:g}: {reference}"]
    if (card := config.get("card")) is not None:
        status = {
            "kind": "executed",
            "date": datetime.date.today(),
            "versions": versions,
            "hardware": hardware,
            "results": {"held_out_loss": round(mean(losses), 4), "seeds": len(losses)},
        }
        recipe = {
            "card": {**card, "alpha_source": {"kind": "executed", "reference": reference}, "status": status},
            **recipe,
        }
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=_WIDTH)
    comment = "".join(f"# {line}\n" for part in header for line in textwrap.wrap(part, _WIDTH))
    write_text(path, comment + text)
