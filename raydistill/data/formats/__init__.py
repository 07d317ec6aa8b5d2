"""Readers of annotations as tools write them, and the generated shapes."""
