"""This project's own method, task-adaptive regularization (METHOD.md)."""
