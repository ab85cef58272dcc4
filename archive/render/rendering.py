"""What views give: images, made or still to be made, and content that is shown as it is."""

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass

from archive.render.jobs import FrameSource, Job
from archive.render.pixels import Pixels


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered image.

    Parameters
    ----------
    body
        The encoded image.
    media_type
        What it is.
    etag
        Strong entity tag, without quotes: names content, frame, parameters and pipeline.
    """

    body: bytes
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """An image that is made when it is asked for.

    Parameters
    ----------
    frame_number
        1-based; None for an image that is not of one frame.
    make
        Makes it, or finds it made.
    kept
        Finds it made; None when it is not.
    make_soon
        Makes it on an event loop; None where preparing that takes a thread.
    """

    media_type: str
    etag: str
    frame_number: int | None
    make: Callable[[], bytes]
    kept: Callable[[], bytes | None]
    make_soon: Callable[[], Coroutine[None, None, bytes]] | None = None

    def rendered(self) -> Rendered:
        """Return the image.

        Raises
        ------
        NotAcceptableError
            If the installed decoders cannot read the frame.
        """
        return Rendered(self.make(), self.media_type, self.etag)


@dataclass(frozen=True, slots=True)
class Content:
    """Stored bytes that are shown as they are: a video or a document.

    Parameters
    ----------
    section
        Yields so many of them from an offset, in pieces.
    """

    length_bytes: int
    section: Callable[[int, int], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Makers:
    """How the views have something made.

    Parameters
    ----------
    submit
        Has a job done; its refusals are the asker's.
    submit_soon
        The same on an event loop.
    source
        Tells where the bytes of a frame are, and the transfer syntax they are in.
    is_direct
        Whether a worker reads the frame from a file, so that nobody here has to wait for it.
    """

    submit: Callable[[Job], bytes]
    submit_soon: Callable[[Job], Coroutine[None, None, bytes]]
    source: Callable[[Pixels, int], tuple[FrameSource, str]]
    is_direct: Callable[[Pixels, int], bool]
