"""A run as a directory of plain files, and what is said while it lasts."""
