"""Measurements → what people read. Pure functions of values; the only place that rounds."""
