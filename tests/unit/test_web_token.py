"""The token file: made once, for the daemon's user alone."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from siaga_pbx.web.token import TokenError, load_or_create, read


def test_made_at_the_first_start_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "siaga.token"
    token = load_or_create(file)
    assert len(token) >= 43  # 256 bits in base64
    assert load_or_create(file) == read(file) == token
    assert [entry.name for entry in tmp_path.iterdir()] == ["siaga.token"]


def test_only_its_owner_reads_it_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        load_or_create(tmp_path / "siaga.token")
    finally:
        os.umask(old)
    assert (tmp_path / "siaga.token").stat().st_mode & 0o777 == 0o600


def test_every_centre_has_its_own(tmp_path: Path) -> None:
    assert load_or_create(tmp_path / "one") != load_or_create(tmp_path / "two")


def test_several_that_start_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: load_or_create(tmp_path / "siaga.token"), range(32)))
    assert len(set(tokens)) == 1


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff\xfe" * 40])
def test_a_file_that_holds_no_token_is_an_error_and_stays(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "siaga.token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(TokenError, match="siaga"):
        load_or_create(file)
    assert file.read_bytes() == content


def test_a_file_that_others_can_read_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "siaga.token"
    load_or_create(file)
    file.chmod(0o640)
    with pytest.raises(TokenError, match="chmod 600"):
        read(file)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="No such file"):
        load_or_create(tmp_path / "none" / "siaga.token")
    with pytest.raises(TokenError, match="No such file"):
        read(tmp_path / "siaga.token")
