"""Where the messages go on the broker, and who may do what there."""

from dataclasses import dataclass

ALL = "+"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics under one prefix. `ALL` as the agency: everybody's, for a subscription."""

    prefix: str

    @property
    def status(self) -> str:
        return f"{self.prefix}/status"

    @property
    def chain(self) -> str:
        return f"{self.prefix}/chain"

    def dispatch(self, agency: str) -> str:
        return f"{self.prefix}/dispatch/{agency}"

    def ack(self, agency: str) -> str:
        return f"{self.prefix}/ack/{agency}"

    def presence(self, agency: str) -> str:
        return f"{self.prefix}/presence/{agency}"

    def parse(self, topic: str) -> tuple[str, str] | None:
        """The kind (dispatch, ack, presence, or status) and the agency of a topic; None when it is none of ours."""
        rest = topic.removeprefix(f"{self.prefix}/")
        kind, _, agency = rest.partition("/")
        known = kind in ("dispatch", "ack", "presence") and agency and "/" not in agency
        if rest == topic or not (known or rest == "status"):
            return None
        return kind, agency
