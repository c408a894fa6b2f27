"""The errors of this package: one class for each kind, all of them `NEFTError`.

A message says what was found, where, and what to do. The program prints it in one line and exits with 2.
"""

from __future__ import annotations

__all__ = [
    "AmbiguousEmbeddingError",
    "ConfigError",
    "DataError",
    "DuplicateNoiseError",
    "EmbeddingNotFoundError",
    "LengthsError",
    "ModelError",
    "NEFTError",
    "NoNoiseError",
    "NonFiniteError",
]


class NEFTError(Exception):
    """Base class of all errors of this package."""


class ConfigError(NEFTError, ValueError):
    """An option has an invalid value, or two options exclude each other.

    Causes: a number out of range, a name that is not one of the choices, an unknown key in a config.

    Ways out: the message names the option, its value and the allowed values; for a misspelt name, the nearest one.
    """


class EmbeddingNotFoundError(NEFTError):
    """The model has no token embedding, or none of the given name.

    Causes: a custom model whose table is not an `nn.Embedding`; a typing error in `target`.

    Ways out: name the module whose output gets the noise, `NEFTune(target="encoder.tokens")`. Use its name in
    `named_modules()`, below the LightningModule.
    """


class AmbiguousEmbeddingError(NEFTError):
    """The model has several token embeddings, and no `target` chooses between them.

    Causes: two models in one LightningModule (a student and a teacher, two towers); several tables in a custom module.

    Ways out: set `target` to the name of one, or to a list of names. The message lists the candidates.
    """


class LengthsError(NEFTError):
    """The lengths of the tokens are unknown, or those of the batch do not fit the embedding's output.

    Causes: `training_step` passes other tokens to the model than the batch holds; the mask has a name that is not
    recognised; the batch has padding and no mask.

    Ways out: `NEFTune(batch_to_mask=...)`, a function from the batch to its attention mask (B, L). Or
    `length="padded"`, or a fixed number of tokens, which need nothing from the batch as long as `scope` is `"all"`.
    """


class NoNoiseError(NEFTError, RuntimeError):
    """A training batch ended without noise although noise is on.

    Causes: the model gets `inputs_embeds`, so the embedding is never called; `training_step` runs another model; the
    embedding was replaced after the start of fit; the forward pass ran without gradients; code was compiled before fit
    and does not see the hook.

    Ways out: the message names the cause. Set `target` to the module that returns the embeddings; compile and replace
    modules in `configure_model`. `alpha=0` turns the noise off.
    """


class DuplicateNoiseError(NEFTError):
    """Two NEFTune callbacks, or a callback and a mixin, would both add noise.

    Causes: `NEFTuneMixin` and a callback of the Trainer; a config with a `neftune` section and a NEFTune callback.

    Ways out: keep one of them.
    """


class DataError(NEFTError):
    """A file of data, results or answers cannot be read, or cannot be used.

    Causes: a missing or broken file, columns of another format, labels that are not classes, a file without results or
    answers.

    Ways out: the message names the file and, if it can, the line. `lightning_neft preview` shows the samples for
    training; set `data.format` and `data.columns` to match the columns.
    """


class ModelError(NEFTError):
    """A base model or checkpoint cannot be loaded or used.

    Causes: no folder and no reachable model of that name; a checkpoint of another model or with other options; a model
    that needs its own code.

    Ways out: the message names the cause. The run's `config.yaml` has the options that its checkpoint needs. If you
    trust a model's code, `model.trust_remote_code` lets it run.
    """


class NonFiniteError(NEFTError):
    """The loss or the weights are NaN or infinite; the program exits with 1.

    Causes: a learning rate that is too high; float16, whose largest number is 65504; a base model with broken weights.

    Ways out: a smaller `model.learning_rate`, `trainer.precision=32-true` or `bf16-mixed`, `model.dtype=float32`. The
    message names the last checkpoint, which is finite.
    """
