"""Tests of raydistill.data."""
