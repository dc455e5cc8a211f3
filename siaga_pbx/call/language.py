"""In which language a caller is spoken to: the route's, else what the caller's device asks for. Pure."""

import re

from siaga_pbx.sip.message import Request

_TAG = re.compile(r"([A-Za-z]{2,3})(?:-[A-Za-z0-9]{1,8})*\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?))?")


def language_of(request: Request, route: str | None) -> str | None:
    """A language as ISO 639 names it, such as `jv`; None if nobody says. The caller's device tells by Accept-Language
    (RFC 3261 20.3); a route knows better: its callers dialled its number."""
    if route is not None:
        return route
    wanted = [match for value in request.headers.values("Accept-Language") if (match := _TAG.fullmatch(value.strip()))]
    liked = [(float(match[2] or 1), match[1].lower()) for match in wanted]
    return max(liked, key=lambda one: one[0], default=(0.0, None))[1] if any(weight for weight, _ in liked) else None
