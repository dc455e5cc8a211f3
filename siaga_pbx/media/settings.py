"""What media needs to know of the configuration's [media]; `siaga_pbx.config.Media` is one."""

from pathlib import Path
from typing import Protocol


class MediaSettings(Protocol):
    """Read-only view of [media]."""

    @property
    def address(self) -> tuple[str, ...]: ...
    @property
    def ports(self) -> tuple[int, int]: ...
    @property
    def workers(self) -> int: ...
    @property
    def prompts(self) -> Path | None: ...
    @property
    def socket(self) -> Path | None: ...


def socket_path(settings: MediaSettings, index: int) -> Path:
    """The UNIX socket of one worker: [media] socket with the worker's index behind it."""
    if settings.socket is None:
        raise ValueError("[media] socket has no place; load the configuration with siaga_pbx.config.load")
    return settings.socket.with_name(f"{settings.socket.name}.{index}")


def lock_path(socket: Path) -> Path:
    """What a worker holds locked as long as it, or what would start it anew, is there."""
    return socket.with_name(f"{socket.name}.lock")


def port_pairs(settings: MediaSettings, index: int) -> list[int]:
    """The even ports of one worker: every `workers`-th pair of [media] ports, so that no two workers share one."""
    first, last = settings.ports
    return list(range(first, last, 2))[index :: settings.workers]
