"""Both migrations on an archive of real files, there and back, seen from outside.

Small here; 1,000 studies by `python -m benchmarks.moving` (docs/scaling.md).
"""

import pytest

from benchmarks.comparing import differing, differing_answers
from benchmarks.moving import Moving
from tests.conftest import new_database, wheel_file

FILES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "examples_palette.dcm", "chrH32.dcm")


@pytest.mark.postgresql
@pytest.mark.xdist_group("buckets")
@pytest.mark.timeout(600)
def test_an_archive_is_the_same_in_postgresql_and_a_bucket_and_back_again(
    postgres_cluster, swift, tmp_path, monkeypatch
):
    for name, value in swift.environment.items():
        monkeypatch.setenv(name, value)
    moving = Moving(
        tmp_path, new_database(postgres_cluster), f"s3://{swift.make_bucket()}/moved"
    )
    steps = moving.run([wheel_file(name) for name in FILES], studies=5)
    assert [step for step in steps if step.told.startswith("DIFFERENT")] == []
    compared = [step.name for step in steps if step.name.startswith("compared")]
    assert compared == [
        f"compared: {what}"
        for what in (
            "rows", "objects", "answers", "rows, as PostgreSQL had them", "rows, as at first",
            "objects", "folders, as diff -r", "answers",
        )
    ]  # fmt: skip
    assert all("all equal" in step.told for step in steps if step.name in compared)


def test_what_differs_is_said():
    first = {"study (id, x)": [(1, b"a"), (2, b"b")], "peer (x)": []}
    assert differing(first, first) == []
    other = first | {"study (id, x)": [(1, b"a"), (2, b"c")]}
    assert differing(first, other) == ["study (id, x): 1 rows of 2"]
    assert differing(first, {"peer (x)": []}) == ["only one has study (id, x)"]
    assert differing_answers({"/studies": 1}, {}) == ["/studies: 1, None"]
