"""Every error that a user of this package can meet: one class each, all of them `NEFTError`.

A message says what was found, where, and what to do. The program prints it as one line and exits with 2.
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
    """Base of all errors of this package."""


class ConfigError(NEFTError, ValueError):
    """An option has a value that it cannot have, or two options do not go together.

    Causes: a number out of its range, a name that is none of the choices, an unknown key of a config.

    Ways out: the message names the option, the value that it got and what it takes; for a misspelt name, the nearest.
    """


class EmbeddingNotFoundError(NEFTError):
    """The model has no token embedding, or none under the name that was given.

    Causes: a model of your own whose table is no `nn.Embedding`; a typing error in `target`.

    Ways out: name the module whose output is to get the noise, `NEFTune(target="encoder.tokens")`. The name is the one
    of `named_modules()`, below the LightningModule.
    """


class AmbiguousEmbeddingError(NEFTError):
    """The model has several token embeddings and nothing says which of them is meant.

    Causes: two models in one LightningModule (a student and a teacher, two towers); several tables in a module of your
    own.

    Ways out: `target` with the name of one, or a list of names. The message lists the candidates.
    """


class LengthsError(NEFTError):
    """The lengths found in the batch do not fit the embedding's output.

    Causes: `training_step` gives the model other tokens than the batch holds; the mask has a name that nothing reads;
    the batch has no mask and holds padding in a form of its own.

    Ways out: `NEFTune(batch_to_mask=...)`, a function from the batch to its attention mask (B, L). Or
    `length="padded"`, or a fixed number of tokens, which need nothing of the batch as long as `scope` is `"all"`.
    """


class NoNoiseError(NEFTError, RuntimeError):
    """A training batch ended without noise although noise was asked for.

    Causes: the model is fed `inputs_embeds`, so that the embedding is never called; `training_step` runs another model;
    the embedding was replaced after the start of fit; the forward pass ran without gradients; code was compiled before
    fit and does not see the hook.

    Ways out: the message says which of these it is. `target` names the module whose output carries the embeddings;
    compile and replace modules in `configure_model`. `alpha=0` turns the noise off.
    """


class DuplicateNoiseError(NEFTError):
    """Two NEFTune callbacks, or a callback and a mixin, would add their noise on top of each other.

    Causes: `NEFTuneMixin` and a callback of the Trainer; a config with a `neftune` section and a callback in its list.

    Ways out: keep one of them.
    """


class DataError(NEFTError):
    """A data source cannot be read, or holds something that cannot be trained on.

    Causes: a file that is missing or broken, columns of another format, labels that are no classes, files of results or
    answers that are none.

    Ways out: the message names the file, and the line where there is one. `lightning_neft preview` shows what would be
    trained on; `data.format` and `data.columns` say what the columns are.
    """


class ModelError(NEFTError):
    """A base model or checkpoint cannot be loaded or used.

    Causes: no folder and no reachable model of that name; a checkpoint of another model or with other options; code of
    the model that may not run.

    Ways out: the message says which. A run's own `config.yaml` has the options that its checkpoint needs;
    `model.trust_remote_code` lets a model's code run, if you trust it.
    """


class NonFiniteError(NEFTError):
    """A loss or weights are NaN or infinite; the program ends with exit code 1.

    Causes: a learning rate that is too high; float16, whose largest number is 65504; a base whose weights are broken.

    Ways out: a smaller `model.learning_rate`, `trainer.precision=32-true` or `bf16-mixed`, `model.dtype=float32`. The
    last checkpoint is finite: the message names it.
    """
