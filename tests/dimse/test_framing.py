"""What is framed where it is read is the same as what is framed from bytes in memory."""

import pytest

from archive.errors import UnavailableError
from dimse.framing import NARROWEST, iter_read
from dimse.messages import iter_pdus


class Body:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.calls = 0

    def fill(self, pieces, offset):
        self.calls += 1
        for piece in pieces:
            part = self.body[offset : offset + len(piece)]
            if len(part) < len(piece):
                raise UnavailableError("it ends early")
            piece[:] = part
            offset += len(part)


BODY = bytes(range(251)) * 12_000  # 3 MB: more than is read at once


@pytest.mark.parametrize("maximum_pdu", [0, NARROWEST, NARROWEST + 1, 16384, 131072, 1 << 24])
@pytest.mark.parametrize("length", [1, 2, 4099, 131_066, 131_067, 1_048_576, 2_900_001])
def test_pdus_are_those_of_the_bytes(length, maximum_pdu):
    body = Body(BODY)
    written = b"".join(
        bytes(part) for part in iter_read(body, 17, length, 5, maximum_pdu, b"command")
    )
    expected = iter_pdus(5, [BODY[17 : 17 + length]], maximum_pdu=maximum_pdu)
    assert written == b"command" + b"".join(expected)
    assert body.calls <= 1 + len(written) // 900_000


def test_nothing_is_out_when_the_first_piece_cannot_be_read():
    with pytest.raises(UnavailableError):
        next(iter_read(Body(b"short"), 0, 100, 1, 0, b"command"))
