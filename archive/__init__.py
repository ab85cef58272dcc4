"""The archive itself: knows DICOM objects, speaks no wire protocol."""
