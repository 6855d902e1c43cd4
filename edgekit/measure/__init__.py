"""Measuring, on the device itself: sampling, statistics, parity. Device floor: standard library and numpy."""
