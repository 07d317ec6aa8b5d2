"""A detector as a file that other programs run: with its preprocessing, postprocessing and the names of its classes."""
