import pytest

from storage.objects.keys import instance_key, new_token, parse_instance_key, token_moment

SOURCE = "0123456789ab"


def test_a_key_tells_everything_it_was_made_of():
    token = new_token(1_764_000_000_123_456)
    key = instance_key("1.2.840", "1.2.840.1", "1.2.840.1.1", token=token, source_key=SOURCE)
    read = parse_instance_key(key)
    assert read is not None
    assert read.study_instance_uid == "1.2.840"
    assert read.series_instance_uid == "1.2.840.1"
    assert read.sop_instance_uid == "1.2.840.1.1"
    assert read.moment_us == token_moment(token) == 1_764_000_000_123_456
    assert read.source_key == SOURCE


@pytest.mark.parametrize(
    "uid", ["../../etc/passwd", "1.2/3", "", "1" * 65, "1..2", "1.2\n", ".."]
)
def test_what_is_not_a_uid_never_becomes_part_of_a_key(uid):
    for position in range(3):
        uids = ["1.2", "1.3", "1.4"]
        uids[position] = uid
        with pytest.raises(ValueError, match="UID"):
            instance_key(*uids, token=new_token(), source_key=SOURCE)


def test_two_keys_of_one_instance_differ_and_sort_by_arrival():
    tokens = [new_token(moment) for moment in (5, 5, 6, 7_000_000)]
    keys = [instance_key("1", "2", "3", token=token, source_key=SOURCE) for token in tokens]
    assert len(set(keys)) == 4
    assert sorted(keys[1:]) == keys[1:]


@pytest.mark.parametrize(
    "key",
    [
        "objects/ab/1/2/3.dcm",
        "sources/0123456789ab.json",
        "objects/ab/1/2/x~y~z.dcm",
        "objects",
    ],
)
def test_other_objects_are_not_taken_for_instances(key):
    assert parse_instance_key(key) is None
