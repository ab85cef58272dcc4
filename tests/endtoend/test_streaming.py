"""Large bodies pass through the archive; they do not stay in it."""

import pytest

from benchmarks.streaming import PROMISED_MB, measure

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, object]]:
    """What each way of one instance of 300 MB took; 2 GB take no more, but longer."""
    return {row["what"]: row for row in measure(300)}


@pytest.mark.parametrize(
    "what",
    [
        "STOW-RS",
        "WADO-RS instance",
        "WADO-RS study",
        "WADO-RS study as zip",
        "WADO-RS pixel data",
        "WADO-RS pixel data, in frames",
        "WADO-RS metadata",
        "WADO-RS frame 1",
    ],
)
def test_no_process_grows_with_what_passes_through_it(what, rows):
    assert rows[what]["growth_mb"] < PROMISED_MB
