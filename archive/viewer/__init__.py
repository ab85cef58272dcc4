"""The OHIF viewer: fetched as published, checked, unpacked, and made to run below a path."""
