"""Dates of answers are those of the library, and of the moment in UTC."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from dicomweb.conditional import Validators


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 2, 3, 4, 5, 6, 999_999, tzinfo=UTC),
        datetime(2024, 2, 29, 23, 59, 59, 500_000, tzinfo=UTC),
        datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_last_modified_is_as_the_library_writes_it(moment):
    wanted = format_datetime(moment.astimezone(UTC), usegmt=True)
    assert Validators('"x"', moment).headers()["Last-Modified"] == wanted
