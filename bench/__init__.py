"""Measurements with a peer beside them; not part of the tests."""
