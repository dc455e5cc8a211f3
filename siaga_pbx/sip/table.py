"""Which transaction a message belongs to (RFC 3261 17.1.3, 17.2.3, 8.2.2.2)."""

from siaga_pbx.sip.message import Message, Response
from siaga_pbx.sip.transaction import Client, InviteClient, InviteServer, Server, ServerKey

MAX_SERVER_TRANSACTIONS = 100_000
"""Three requests a call, 500 calls a second, for the 32 s that a transaction stays, twice over. More are dropped."""


def server_key(request: Message, method: str) -> ServerKey:
    """What a request is matched by; ACK and CANCEL are looked up as INVITE. A response has the same headers.

    RFC 3261 17.2.3 asks for branch, sent-by and method. Call-ID, From tag and CSeq are added: pyVoIP answers a
    challenge with the branch of the request that was challenged, and phones older than RFC 3261 have none to speak of.
    """
    cseq, via = request.cseq, request.via
    return (method, cseq.number, request.call_id, request.from_.tag or "", via.branch or "", via.host, via.port or 0)


class Table:
    """Every transaction that is not terminated."""

    __slots__ = ("_client", "_server", "_unique")

    def __init__(self) -> None:
        self._client: dict[tuple[str, str], InviteClient | Client] = {}
        self._server: dict[ServerKey, InviteServer | Server] = {}
        self._unique: dict[tuple[str | int, ...], ServerKey] = {}

    def __len__(self) -> int:
        return len(self._client) + len(self._server)

    @property
    def full(self) -> bool:
        return len(self._server) >= MAX_SERVER_TRANSACTIONS

    @property
    def crowded(self) -> bool:
        """Half of it is in use: the rest is kept for callers."""
        return len(self._server) >= MAX_SERVER_TRANSACTIONS // 2

    def clients(self) -> list[InviteClient | Client]:
        return list(self._client.values())

    def client_of(self, response: Response) -> InviteClient | Client | None:
        return self._client.get((response.via.branch or "", response.cseq.method))

    def server_of(self, key: ServerKey) -> InviteServer | Server | None:
        return self._server.get(key)

    def is_merged(self, key: ServerKey) -> bool:
        """Whether a request out of a dialog came already another way (RFC 3261 8.2.2.2): another branch or sender."""
        return self._unique.get(key[:4], key) != key

    def add(self, transaction: InviteClient | Client | InviteServer | Server) -> None:
        if isinstance(transaction, InviteClient | Client):
            self._client[transaction.key] = transaction
        else:
            self._server[transaction.key] = transaction
            self._unique.setdefault(transaction.key[:4], transaction.key)

    def remove(self, transaction: InviteClient | Client | InviteServer | Server) -> None:
        if isinstance(transaction, InviteClient | Client):
            self._client.pop(transaction.key, None)
        elif self._server.pop(transaction.key, None) and self._unique.get(transaction.key[:4]) == transaction.key:
            del self._unique[transaction.key[:4]]
