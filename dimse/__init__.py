"""The DICOM Upper Layer face (PS3.7, PS3.8): translate, call, answer."""
