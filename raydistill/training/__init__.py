"""One stage of training, and all of them in turn."""
