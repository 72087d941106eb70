"""What `make verify` makes of HQ_URL; its checks are run against real programs by test_run_for_real.py."""

import pytest

from scripts.verify import origin_of


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://relay.example.com/", "https://relay.example.com"),
        ("ws://localhost:8080/ws/runner", "http://localhost:8080"),
        ("wss://relay.example.com/ws/runner", "https://relay.example.com"),
    ],
)
def test_takes_a_browsers_and_a_runners_address(text: str, origin: str) -> None:
    assert origin_of(text) == origin


@pytest.mark.parametrize("text", ["localhost:8080", "ftp://relay.example.com", "http://", ""])
def test_refuses_what_is_no_address_of_an_hq(text: str) -> None:
    with pytest.raises(SystemExit, match="not the URL of an HQ"):
        origin_of(text)
