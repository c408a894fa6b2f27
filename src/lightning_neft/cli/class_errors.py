"""Errors of options whose value is a name or a class, such as `model.optimizer`, as one line."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

from lightning_neft.common.near_names import did_you_mean
from lightning_neft.common.secrets import MASK, is_secret

__all__ = ["explain_class"]

# An example of a class for each option, and the options of the model that stand for parameters of the classes.
_EXAMPLES = {
    "model.optimizer": "torch.optim.SGD",
    "model.lr_scheduler": "torch.optim.lr_scheduler.StepLR",
    "trainer.logger": "lightning.pytorch.loggers.CSVLogger",
}
_TAKEN_FROM = {"lr": "model.learning_rate", "weight_decay": "model.weight_decay"}


def explain_class(key: str, text: str) -> str | None:
    """Return one line for a message of jsonargparse about an option that is a name or a class, or None if it is not.

    Args:
        key: The option.
        text: The message.
    """
    is_option_of_logger = key == "trainer.logger" and ("given class_path" in text or "NestedArg" in text)
    if key not in _EXAMPLES or is_option_of_logger:
        return None
    # The reasons why it is not a name, and why it is not a class; of the latter the text ends with the parsed value.
    names = re.findall(r"'([^']+)'", (re.search(r"typing\.Literal\[(.*?)\]", text) or [""])[0])
    given = re.search(r"class_path='([^']+)'", text) or re.search(r"^\s*Given value: (.*)$", text, re.MULTILINE)
    value = given[1] if given else ""
    if option := re.search(r"Option '([^']+)' is not accepted", text):
        if taken := _TAKEN_FROM.get(option[1]):
            return f"{key}.{option[1]} is taken from {taken}; give that"
        return f"{key}: unknown key {option[1]}{_hint(value, option[1])}"
    if missing := re.search(r"the following arguments are required: ([\w, ]+)", text):
        first = missing[1].split(",")[0]
        return f"{key}: {value.rpartition('.')[2]} needs {missing[1]}; give --{key}.{first}"
    if wrong := re.search(r'Parser key "(\w+)":\s*(?:Invalid|Expected)', text.partition("Subtypes:")[2]):
        found = (re.search(r"Got value: (.*?)\. Got value: ", text) or re.search(r"Given value: (.*)", text) or "  ")[1]
        shown = MASK if is_secret(wrong[1], found) else repr(found)
        return f"{key}.{wrong[1]}: got {shown}, which is of another type than {value.rpartition('.')[2]} expects"
    if nested := re.search(r"Given value: NestedArg\(key='([^']+)'", text):
        return f"{key}.{nested[1]} is an option of a class; give that too, as --{key} {_EXAMPLES[key]} before it"
    choice = f"give one of {', '.join(names)}, or the path of a class, such as {_EXAMPLES[key]}"
    if module := re.search(r"No module named '([^']+)'", text):
        package = module[1].partition(".")[0]
        what = f"the package {package} is not installed" if package == module[1] else f"there is no module {module[1]}"
        return f"{key}={value}: {what}; install it, or {choice}"
    if kind := re.search(r"to be a subclass of <class '(\w+)'>", text):
        return f"{key}: {value} is not a subclass of {kind[1]}; {choice}"
    return f"{key}: got {value!r}; {did_you_mean(value, names, choice)}"


def _hint(path: str, option: str) -> str:
    """Return the nearest parameter of the class that did not accept an option."""
    module, _, name = path.rpartition(".")
    skipped = ("self", "params", "optimizer", *_TAKEN_FROM)
    parameters = inspect.signature(getattr(import_module(module), name)).parameters
    known = [parameter for parameter in parameters if parameter not in skipped]
    return f" of {name}; {did_you_mean(option, known, 'it has ' + ', '.join(known))}"
