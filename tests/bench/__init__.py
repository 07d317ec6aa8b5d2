"""Tests of raydistill.bench."""
