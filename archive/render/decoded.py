"""Frames that were decoded before, bounded in size: of one process, and as long as it lives.

Who drags a window in a viewer asks for one frame again and again, each time differently shown.
Decoding it is most of the work: twenty times the rest for a slice of JPEG 2000. Frames without
compression are not kept here, for the kernel keeps their files.
"""

from collections import OrderedDict
from collections.abc import Callable

from archive.render.decode import DecodedFrame


class DecodedFrames:
    """The most recently used frames. Not thread-safe: a worker does one job at a time.

    Parameters
    ----------
    max_bytes
        The pixels kept never add up to more; a larger frame is returned but not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._frames: OrderedDict[str, DecodedFrame] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """What the pixels kept add up to."""
        return self._size_bytes

    def get_or_decode(self, name: str, decode: Callable[[], DecodedFrame]) -> DecodedFrame:
        """Return a frame, decoded unless it is kept.

        Parameters
        ----------
        name
            Everything its pixels depend on; "" for a frame that is not to be kept.
        """
        frame = self._frames.get(name)
        if frame is not None:
            self._frames.move_to_end(name)
            return frame
        frame = decode()
        if name and frame.pixels.nbytes <= self._max_bytes:
            self._keep(name, frame)
        return frame

    def _keep(self, name: str, frame: DecodedFrame) -> None:
        frame.pixels.flags.writeable = False  # what is shown next begins with the same
        self._frames[name] = frame
        self._size_bytes += frame.pixels.nbytes
        while self._size_bytes > self._max_bytes:
            _, dropped = self._frames.popitem(last=False)
            self._size_bytes -= dropped.pixels.nbytes
