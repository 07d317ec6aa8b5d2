"""Files on disks and object stores that may fail."""
