"""The two protocol errors: ours and theirs. Parsing raises RemoteError and nothing else, whatever the bytes were."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siaga_pbx.sip.message import Request


class SipError(Exception):
    """Any fault of the protocol; never raised itself."""


class LocalError(SipError):
    """Our own mistake: a message that we must not send, a call of the API that cannot be right."""


class RemoteError(SipError):
    """The peer's mistake: what came in cannot be used, not even after repair.

    `reason` is a short slug, the same for the same fault, fit for a metric label. `status` is what the sender of a
    request should be told. `request` is what could be read of it, when that is enough to answer (see
    `make_response`), else None: then it can only be dropped and counted. `fatal` says that a stream cannot be read
    any further and must be closed.
    """

    def __init__(self, reason: str, detail: str = "", *, status: int = 400, fatal: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.status = status
        self.fatal = fatal
        self.salvage: Callable[[], Request | None] | None = None
        """What tells `request`: not every message that is broken is answered, and in a flood few are."""

    def kept(self) -> "RemoteError":
        """This error for one who keeps it: without its traceback and its context, which hold the frames it came by.

        One of those then holds it: in a flood that is garbage faster than the collector finds it.
        """
        self.__context__ = None
        return self.with_traceback(None)

    @property
    def request(self) -> "Request | None":
        return self.salvage() if self.salvage is not None else None
