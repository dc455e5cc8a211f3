"""Orders become dispatches that are durable before they are confirmed, and followed until a person has accepted."""

from collections.abc import Mapping

from siaga_pbx.config import Config
from siaga_pbx.dispatch.hooks import Hooks
from siaga_pbx.dispatch.order import Order, Receipt
from siaga_pbx.dispatch.ports import Clock
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.store import Store


class Dispatcher:
    """Call start(), then the rest; everything on one event loop. The store must be open."""

    def __init__(self, config: Config, store: Store, reader: Reader, clock: Clock, hooks: Hooks | None = None) -> None:
        """`hooks.on_alarm` takes `Alarms.set` as it is."""

    async def start(self) -> None:
        """Resumes from the database and keeps a connection to the broker. Never waits for the broker or the database.

        Raises BrokerMissing when the broker is "embedded" and mosquitto is not installed.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Says goodbye to the broker. What is not delivered is resumed at the next start."""
        raise NotImplementedError

    async def configure(self, config: Config) -> None:
        """A reload: new orders follow the new configuration, the connection is made anew if its settings changed."""
        raise NotImplementedError

    async def dispatch(self, order: Order) -> Receipt:
        """Commits incident, dispatches and outbox as one; returns once they are durable, delivered or not.

        A second order for the same call and category is an update. Raises OrderRefused (UnknownCall, UnknownCategory,
        NoAgency) or StoreUnavailable; then nothing was written.
        """
        raise NotImplementedError

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        raise NotImplementedError

    @property
    def pending(self) -> int:
        """Dispatches whose latest sequence no agency's end has received yet."""
        raise NotImplementedError

    @property
    def oldest_s(self) -> float:
        """How long the oldest of them has waited, in seconds; 0 when none does."""
        raise NotImplementedError

    @property
    def agencies(self) -> Mapping[str, bool | None]:
        """Whether each configured agency's end is online; None: nothing heard of it, or the broker is away."""
        raise NotImplementedError
