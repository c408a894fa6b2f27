"""Secrets that must not get into files and messages: values of keys, passwords in URLs, tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["MASK", "is_masked", "is_secret", "mask", "mask_addresses", "mask_message", "mask_text"]

MASK = "*** (masked)"

_SECRET_WORDS = {"secret", "secrets", "password", "passwd", "passphrase", "credential", "credentials", "authorization"}
# Secrets only if texts: `tokens: 512` is a count, `token: true` a switch.
_SECRET_TEXTS = {"key", "keys", "apikey", "token", "bearer"}
# Names of settings that are not secrets although they end like one.
_HARMLESS = {"pad", "eos", "bos", "unk", "mask", "sep", "cls", "image", "stop", "end", "text", "prompt", "field"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_IN_ADDRESSES = (
    # user:password@ of a URL, such as that of a database
    (re.compile(r"(\b[a-zA-Z][\w+.-]*://[^\s/:@]*):[^\s/@]+@"), r"\1:***@"),
    # ?password=VALUE of a URL
    (
        re.compile(
            r"([?&][\w.-]*(?:key|token|secret|password|passwd|pwd|credential|signature|sig)=)[^\s&'\"#]+", re.IGNORECASE
        ),
        r"\1***",
    ),
    (re.compile(r"\b(hf_|sk-|ghp_|gho_|github_pat_|xox[abp]-)[\w-]{12,}"), r"\1***"),
    (re.compile(r"\b(bearer)\s+[\w.~+/=-]{8,}", re.IGNORECASE), r"\1 ***"),
)
_IN_TEXT = (
    *_IN_ADDRESSES,
    # --judge.api_key VALUE, OPENAI_API_KEY=VALUE, ?token=VALUE
    (
        re.compile(
            r"((?:\b|_)(?:api[_-]?key|access[_-]?key|token|secret|password|passwd)(?:=|:\s*|\s+(?=\S{6,})))[^\s&'\",;]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)


# NAME=VALUE and 'NAME': 'VALUE', the value in quotation marks or not
_NAMED = re.compile(
    r"""\b([A-Za-z_][\w.-]*)(['"]?\s*[=:]\s*)(?:('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|([^\s'"&,;{}()\[\]]+))"""
)
_MASKED_ADDRESS = re.compile(r"://[^\s/]*:\*\*\*@|[?&][\w.-]+=\*\*\*")


def mask(value: Any, name: str = "") -> Any:
    """Return a value of settings without secrets.

    Args:
        value: A plain value as in JSON; objects and lists are searched.
        name: The name of the setting.

    Example:
        >>> mask({"api_key": "abc", "pad_token": "</s>", "tokens": 512, "storage": "postgresql://me:pw@host/db"})
        {'api_key': '*** (masked)', 'pad_token': '</s>', 'tokens': 512, 'storage': 'postgresql://me:***@host/db'}
    """
    if is_secret(name, value):
        return MASK
    if isinstance(value, Mapping):
        return {key: mask(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        # A command line: --name, then its value, or both in one word.
        names = [*([""] if value else []), *value[:-1]]
        return [
            mask(_without_value(inner), before if _is_option(before) else "")
            for before, inner in zip(names, value, strict=True)
        ]
    return mask_text(value) if isinstance(value, str) else value


def mask_text(text: str) -> str:
    """Return a text, such as a command or an error, without secrets.

    Example:
        >>> mask_text("fit --judge.api_key abc123def --seed 1")
        'fit --judge.api_key *** --seed 1'
    """
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _is_option(word: Any) -> bool:
    """Return whether a word is an option whose value is the next word."""
    return isinstance(word, str) and word.startswith("--") and "=" not in word


def _without_value(word: Any) -> Any:
    """Return a word `--name=value` without its value if it is a secret."""
    if not isinstance(word, str) or not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return f"{name}={MASK}" if equals and is_secret(name, value) else word


def mask_addresses(text: str) -> str:
    """Return a text without passwords and keys in URLs, and without tokens of known forms.

    Other words do not change, so that a setting keeps its meaning.

    Example:
        >>> mask_addresses("s3://me:pw@host/a?api_key=abc&b=1 and a token of words")
        's3://me:***@host/a?api_key=***&b=1 and a token of words'
    """
    for pattern, replacement in _IN_ADDRESSES:
        text = pattern.sub(replacement, text)
    return text


def mask_message(text: str) -> str:
    """Return a message without secrets; unlike in a command, `token` may be followed by words of a sentence.

    Example:
        >>> mask_message("CSVLogger got {'api_key': 'abc def', 'name': 'a'}, but a token is no name")
        "CSVLogger got {'api_key': '***', 'name': 'a'}, but a token is no name"
    """
    return _NAMED.sub(_masked_value, mask_addresses(text))


def _masked_value(found: re.Match[str]) -> str:
    name, between, quoted, bare = found.groups()
    # `unknown key: x`, and the key that a message reports.
    is_sentence = ":" in between and bare is not None and (name.lower() in _SECRET_TEXTS or "." in name)
    if is_sentence or not is_secret(name, (quoted or bare).strip("'\"")):
        return found[0]
    shown = "***" if quoted is None else f"{quoted[0]}***{quoted[0]}"
    return f"{name}{between}{shown}"


def is_masked(value: Any) -> bool:
    """Return whether `mask` or `mask_addresses` masked a setting."""
    return isinstance(value, str) and (value == MASK or bool(_MASKED_ADDRESS.search(value)))


def is_secret(name: str, value: Any) -> bool:
    """Return whether a setting of this name is a secret; switches, counts and unset values are not."""
    if value is None or value == "" or isinstance(value, bool):
        return False
    words = [word.lower() for word in _WORD.findall(name)]
    if _SECRET_WORDS & set(words):
        return True
    if isinstance(value, (int, float)) or not words:
        return False
    return words[-1] in _SECRET_TEXTS and not _HARMLESS & set(words)
