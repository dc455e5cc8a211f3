"""The `;name=value` parameters that URIs and headers share, and quoted strings (RFC 3261 25.1).

Values are kept as they were written, quotes and escapes included, so that what was parsed is serialised the same.
"""

import re
from typing import TypeAlias
from urllib.parse import unquote as _unescape

Params: TypeAlias = tuple[tuple[str, str | None], ...]
"""In order of appearance; a parameter without `=` has the value None."""

# Every alternative is possessive and begins with another character, so that no input makes these slower than linear.
# A quote or bracket that is never closed runs to the end.
_QUOTED = r'"(?:[^"\\]++|\\.?)*+"?'
_BETWEEN_COMMAS = re.compile(rf'(?:[^,"<]++|{_QUOTED}|<[^<>]*+>?)++', re.DOTALL)
_BETWEEN_SEMICOLONS = re.compile(rf'(?:[^;"]++|{_QUOTED})++', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE = re.compile(r'["\\\x00-\x08\x0a-\x1f\x7f]')


def split_commas(text: str) -> list[str]:
    """The members of a comma-separated list, stripped, empty ones left out; commas in quotes and <> do not separate."""
    if "," not in text:
        parts = [text]
    elif '"' in text or "<" in text:
        parts = _BETWEEN_COMMAS.findall(text)
    else:
        parts = text.split(",")
    return [part for part in map(str.strip, parts) if part]


def parse_params(text: str) -> Params:
    """`;a=1;b` to (("a", "1"), ("b", None)). Empty parameters are left out: a stray semicolon harms nobody."""
    if not text:
        return ()
    params: list[tuple[str, str | None]] = []
    for part in _BETWEEN_SEMICOLONS.findall(text) if '"' in text else text.split(";"):
        name, equals, value = part.partition("=")
        if name := name.strip():
            params.append((name, value.strip() if equals else None))
    return tuple(params)


def format_params(params: Params) -> str:
    """The inverse of parse_params."""
    return "".join([f";{name}" if value is None else f";{name}={value}" for name, value in params])


def get_param(params: Params, name: str) -> str | None:
    """The value of the first parameter of that (lower-case) name: unquoted, "" for a flag, None when absent."""
    for key, value in params:
        if key == name or key.lower() == name or ("%" in key and unescape(key).lower() == name):
            return "" if value is None else unquote(value)
    return None


def set_params(params: Params, added: Params) -> Params:
    """`params` with each of `added` in place of the one of its name, or at the end."""
    result = list(params)
    for name, value in added:
        for index, (key, _) in enumerate(result):
            if key.lower() == name.lower():
                result[index] = (key, value)
                break
        else:
            result.append((name, value))
    return tuple(result)


def drop_params(params: Params, names: tuple[str, ...]) -> Params:
    """`params` without those of the (lower-case) names."""
    return tuple(param for param in params if param[0].lower() not in names)


def unescape(text: str) -> str:
    """The text with its %XX escapes resolved; what is no UTF-8 becomes U+FFFD. Never raises."""
    return _unescape(text) if "%" in text else text


def unquote(text: str) -> str:
    """The content of a quoted string; other text as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    content = text[1:-1]
    return _ESCAPED.sub(r"\1", content) if "\\" in content else content


def quote(text: str) -> str:
    """A quoted string with that content. Line breaks, which none can hold, become blanks."""
    return f'"{_TO_ESCAPE.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    return " " if match[0] in "\r\n" else "\\" + match[0]
