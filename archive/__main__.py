"""The program: ``fileroom``, the same as ``python -m archive``."""

import os

# numpy, which pydicom loads, lets OpenBLAS start a thread for every core when it is imported,
# and the supervisor may only fork from a process without threads (docs/decisions/0002). So
# this comes before every other import.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from archive.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
