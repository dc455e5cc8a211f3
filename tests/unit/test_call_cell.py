"""Cells, as the radio networks write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.call.cell import Cell, read_cell


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (
            "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=51010ABCD1234567",
            Cell("3GPP-E-UTRAN-FDD", "510", "10", 0xABCD, 0x1234567),
        ),
        (
            '3GPP-E-UTRAN-TDD; utran-cell-id-3gpp="310410ABCD1234567"; network-provided',
            Cell("3GPP-E-UTRAN-TDD", "310", "410", 0xABCD, 0x1234567),
        ),
        ("3GPP-UTRAN-FDD; UTRAN-cell-id-3gpp=5108900ff00abcde", Cell("3GPP-UTRAN-FDD", "510", "89", 0xFF, 0xABCDE)),
        ("3GPP-GERAN;cgi-3gpp=510110FA03E8C", Cell("3GPP-GERAN", "510", "11", 0x0FA0, 0x3E8C)),
        ("3GPP-NR-FDD;nr-cell-id-3gpp=510100000ab012345678", Cell("3GPP-NR-FDD", "510", "10", 0xAB, 0x012345678)),
    ],
)
def test_a_cell(value: str, cell: Cell) -> None:
    assert read_cell(value) == cell


@pytest.mark.parametrize(
    "value",
    [
        "",
        "IEEE-802.11;i-wlan-node-id=00112233aabb",
        "3GPP-E-UTRAN-FDD",
        "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=",
        "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp",
        "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=51010ABCD12345",
        "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=5101xABCD1234567",
        "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=\uff15\uff11\uff1010ABCD1234567",
    ],
)
def test_no_cell(value: str) -> None:
    assert read_cell(value) is None


@given(st.text(max_size=80))
def test_nothing_raises(text: str) -> None:
    read_cell(text)
    read_cell(f"3GPP;utran-cell-id-3gpp={text}")
