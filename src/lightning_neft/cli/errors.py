"""Errors that the user can fix, as one line without usage or traceback."""

from __future__ import annotations

import errno
import inspect
import itertools
import re
from argparse import ArgumentError
from collections.abc import Iterator
from importlib import import_module
from pickle import UnpicklingError

from lightning_neft.cli.class_errors import explain_class
from lightning_neft.common.escaping import escaped
from lightning_neft.common.near_names import did_you_mean
from lightning_neft.common.secrets import MASK, is_secret, mask_message
from lightning_neft.errors import NEFTError

__all__ = ["explain", "explain_argument_error", "explain_instantiation"]


# Errors that carry no file name.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_WORDS = {"NoneType": "null", "str": "text", "bool": "true/false"}


# The wrong value of an option of a class.
_INNER_VALUE = re.compile(
    r"Problem with given class_path '([^']+)':\s*Parser key \"([^\"]+)\":\s*"
    r"Expected an? (<class '[^']+'>)\. Got value: (.*)"
)
# Keys whose value is one class, given key by key.
_SECTIONS = ("neftune", "model.lora")
_REQUIRED = re.compile(r"the following arguments are required: (\S+)")
_OTHER_TYPE = re.compile(r"Expected an? |Not a valid subclass|Import path \S+ does not correspond")


def explain(error: BaseException) -> str | None:
    """Return one line about an error that the user can fix, or None if it is a bug of the program.

    It may quote data, such as a column name, and options: control characters are escaped, and secrets are masked.
    """
    line = _explanation(error)
    return None if line is None else escaped(mask_message(line))


def _explanation(error: BaseException) -> str | None:
    if isinstance(error, NEFTError):
        return _one_line(str(error))
    if isinstance(error, ArgumentError):
        return explain_argument_error(str(error))
    message = _one_line(str(error))
    if isinstance(error, RuntimeError) and message.startswith("Error(s) in loading state_dict"):
        return f"the checkpoint does not fit the model; give the model.* options of its config.yaml: {message}"
    if isinstance(error, UnpicklingError):
        return "a file that holds more than tensors and plain values was refused, because loading it could run code"
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _FULL):
        # A file in place of a folder, no permission, a full disk.
        where = "an output of this command" if error.filename is None else f"{error.filename}"
        way_out = "make room there, or give another path" if error.errno in _FULL else "give another path"
        return f"{where} cannot be read or written: {error.strerror}; {way_out}"
    if isinstance(error, MemoryError) or _is_out_of_memory(error, message):
        return "out of memory; try a smaller data.batch_size, data.max_length or model.lora.r"
    # Lightning checks some options of the Trainer late, with plain ValueErrors.
    raised_in = _module_of_raise(error)
    is_misconfiguration = type(error).__name__ == "MisconfigurationException"
    if is_misconfiguration or (isinstance(error, ValueError) and raised_in.startswith("lightning.")):
        return message
    # A callback looks up its metric only after the first validation.
    if isinstance(error, RuntimeError) and raised_in.startswith("lightning.pytorch.callbacks."):
        return message
    return None


def _is_out_of_memory(error: BaseException, message: str) -> bool:
    """Return whether PyTorch ran out of memory: on a GPU it has a class, on a CPU only a text."""
    is_on_gpu = type(error).__name__ == "OutOfMemoryError"
    return is_on_gpu or (isinstance(error, RuntimeError) and "can't allocate memory" in message)


def explain_argument_error(message: str) -> str:
    """Return one line for a message of jsonargparse about a value."""
    text = message.strip()
    keys = re.findall(r'Parser key "([^"]+)"', text)
    if not keys:
        return _one_line(text)
    key = keys[0] if len(keys) == 1 or keys[1].startswith(keys[0]) else f"{keys[0]}.{keys[1]}"
    if line := explain_class(keys[0], text):
        return line
    if file := re.search(r"Unable to load config ['\"]([^'\"]+)", text):
        return (
            f"{key}: {file[1]!r} is not a YAML file with the keys of {key}; give them one by one, as --{key}.KEY VALUE"
        )
    if inner := _INNER_VALUE.search(text):
        path, name, expected_type, given = inner.groups()
        shown = MASK if is_secret(name, given) else given
        wanted = " or ".join(_expected(f"Expected a {expected_type}. Got value: x"))
        # The class of a section is implied; that of a callback in a list was written by the user.
        where = f"{keys[0]}." if keys[0] in _SECTIONS else f"{keys[0]}: {path.rpartition('.')[2]}."
        return f"{where}{name}: got {shown!r}, expected {wanted}"
    if option := re.search(r"Option '([^']+)' is not accepted", text):
        return f"{key}: unknown key {option[1]}{_hint(text, option[1])}"
    if (required := _REQUIRED.search(text)) and key == "data.sources":
        return f"{key}: an entry has no {required[1]}; give each entry one"
    if problem := re.search(r"Problem with given class_path '([^']+)':\n\s*(?!\s|Parser key)(.+)", text):
        return f"{key}: {problem[1]}: {problem[2].strip()}"
    if len(keys) > 1:
        text = _block(text, keys[1])
    value = re.search(r"(?:Got value|Given value): (.*)", text)
    expected = list(dict.fromkeys(_expected(text)))
    if not value or not expected:
        return _one_line(text)
    given = re.sub(r"NestedArg\(key='.*?', val='(.*)'\)", r"\1", value[1])
    given = MASK if is_secret(key.rpartition(".")[2], given) else given
    return f"{key}: got {given!r}, expected {' or '.join(expected)}"


def explain_instantiation(message: str) -> str:
    """Return one line for a message of jsonargparse about a class that could not be built."""
    text = message.strip()
    if not text.startswith("Does not validate against any of the Union subtypes"):
        return _one_line(text)
    listed, _, given = text.partition("\nErrors:\n")[2].partition("\nGiven value type")
    reasons = [_one_line(reason) for reason in re.split(r"^  - ", listed, flags=re.MULTILINE) if reason.strip()]
    # Drop the reasons why the other types of the option do not match.
    own = [reason for reason in reasons if not _OTHER_TYPE.match(reason)]
    named = re.search(r"class_path='(?:\w+\.)*(\w+)'", given)
    reason = re.sub(r"^Problem with given class_path '[^']+': ", "", (own or reasons or [_one_line(text)])[0])
    return f"{named[1]}: {reason}" if named else reason


def _block(text: str, key: str) -> str:
    """Return the indented lines about an inner key; later lines are about its section."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if f'Parser key "{key}"' in line)
    depth = len(lines[start]) - len(lines[start].lstrip())
    inner = itertools.takewhile(lambda line: len(line) - len(line.lstrip()) > depth, lines[start + 1 :])
    return "\n".join(inner)


def _expected(text: str) -> Iterator[str]:
    if re.search(r"Expected a dot import path|Not a valid subclass", text):
        yield "a section with keys"
    for found in re.findall(r"Expected an? (.*?)(?:\. Got value: .*)?$", text, flags=re.MULTILINE):
        if found.startswith(("path but", "dot import path")):
            continue
        name = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", found)
        yield _WORDS.get(name, re.sub(r"^typing\.Literal\[(.*)\]$", r"\1", name))


def _hint(text: str, option: str) -> str:
    """Return the nearest parameter of the class that did not accept an option."""
    path = re.search(r"Problem with given class_path '([^']+)'", text)
    if not path:
        return ""
    module, _, name = path[1].rpartition(".")
    parameters = list(inspect.signature(getattr(import_module(module), name)).parameters)
    return f" of {name}; {did_you_mean(option, parameters, 'it has ' + ', '.join(parameters))}"


def _module_of_raise(error: BaseException) -> str:
    traceback = error.__traceback__
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return str(traceback.tb_frame.f_globals.get("__name__", ""))


def _one_line(text: str) -> str:
    return " ".join(text.split())
