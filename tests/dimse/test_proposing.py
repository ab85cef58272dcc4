"""Which presentation contexts are proposed for what is to be sent."""

from dimse.proposing import batches, proposals

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG_2000, JPEG_LS = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80"


def test_what_is_compressed_is_proposed_alone_and_uncompressed():
    assert proposals((CT, JPEG_2000)) == [(CT, (JPEG_2000,)), (CT, (EXPLICIT, IMPLICIT))]


def test_what_is_uncompressed_is_proposed_in_both_ways():
    assert proposals((CT, IMPLICIT)) == [(CT, (EXPLICIT,)), (CT, (IMPLICIT,))]


def test_what_a_peer_prefers_is_proposed_in_its_order_and_uncompressed_at_last():
    assert proposals((CT, EXPLICIT), [JPEG_LS, IMPLICIT, JPEG_2000]) == [
        (CT, (JPEG_LS,)),
        (CT, (JPEG_2000,)),
        (CT, (IMPLICIT, EXPLICIT)),
    ]


def test_few_kinds_go_over_one_association():
    ((kinds, contexts),) = batches([(CT, EXPLICIT), (CT, IMPLICIT), (MR, JPEG_2000)])
    assert kinds == {(CT, EXPLICIT), (CT, IMPLICIT), (MR, JPEG_2000)}
    assert len(contexts) == 4  # the two of CT are the same


def test_nothing_to_send_needs_no_association():
    assert list(batches([])) == []


def test_no_association_has_more_than_128_contexts_and_every_kind_is_carried_once():
    kinds = [(f"1.2.3.{number}", JPEG_2000) for number in range(200)]
    made = list(batches(kinds))
    assert all(len(contexts) <= 128 for _, contexts in made)
    assert len(made) == 4
    carried = [kind for batch, _ in made for kind in batch]
    assert sorted(carried) == sorted(kinds)
    for batch, contexts in made:
        assert {uid for uid, _ in batch} == {uid for uid, _ in contexts}
