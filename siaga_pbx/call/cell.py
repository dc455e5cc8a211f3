"""The cell that a call comes from, of P-Access-Network-Info (RFC 7315 5.4, 3GPP TS 24.229 7.2A.4, TS 23.003 19.6)."""

import re
from dataclasses import dataclass

from siaga_pbx.sip.params import get_param, parse_params

# (parameter, digits of the area code, digits of the cell), both hexadecimal; MCC and a MNC of 2 or 3 go before.
_FORMS = (
    ("utran-cell-id-3gpp", 4, 7),  # UTRAN (LAC, UTRAN cell id) and E-UTRAN (TAC, ECI) share the name
    ("eutran-cell-id-3gpp", 4, 7),
    ("cgi-3gpp", 4, 4),
    ("nr-cell-id-3gpp", 6, 9),
)
_DIGITS = re.compile(r"[0-9]{5,6}[0-9A-Fa-f]*")


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: `access` is the kind of radio as the network wrote it, `mcc` and `mnc` tell the operator.

    `area` (LAC or TAC) and `number` (CI, ECI or NCI) are numbers in that operator's network.
    """

    access: str
    mcc: str
    mnc: str
    area: int
    number: int


def read_cell(value: str) -> Cell | None:
    """One P-Access-Network-Info; None if it names no cell that can be read. Never raises."""
    access, _, text = value.partition(";")
    params = tuple([(name.lower(), content) for name, content in parse_params(text)])
    for name, area, number in _FORMS:
        digits = (get_param(params, name) or "").strip('"')
        mnc = len(digits) - 3 - area - number
        if mnc in (2, 3) and _DIGITS.fullmatch(digits) and digits[: 3 + mnc].isdigit():
            codes = digits[3 + mnc :]
            return Cell(
                access.strip()[:40], digits[:3], digits[3 : 3 + mnc], int(codes[:area], 16), int(codes[area:], 16)
            )
    return None
