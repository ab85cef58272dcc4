"""What a status means for the one who sent the instance."""

import pytest

from dimse.store_answers import answer, in_words


@pytest.mark.parametrize(
    "status", [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007, 0xB123]
)
def test_success_warning_and_duplicate_are_sent(status):
    assert answer(status) == "sent"


@pytest.mark.parametrize(
    "status", [0x0112, 0x0117, 0x0122, 0x0124, 0x0211, 0xA900, 0xA9FF, 0xC000, 0xCFFF]
)
def test_what_says_something_of_the_instance_is_refused(status):
    assert answer(status) == "refused"


@pytest.mark.parametrize("status", [0x0110, 0x0210, 0x0213, 0xA700, 0xA7FF, 0xA801, 0xFE00])
def test_what_says_something_of_the_peer_is_a_failure_that_passes(status):
    assert answer(status) == "failed"


def test_a_status_is_told_by_number_and_name():
    assert in_words(0xA701) == "status A701, Refused: Out of Resources"
    assert in_words(0xA801) == "status A801"
