"""``python -m archive`` is the same as ``fileroom``."""

from archive.cli.main import main

if __name__ == "__main__":
    main()
