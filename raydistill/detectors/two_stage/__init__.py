"""Two-stage detectors: region proposals, then heads."""
