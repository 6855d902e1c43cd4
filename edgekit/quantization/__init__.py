"""What passes that quantize share: plans, QDQ, calibration, ranges."""
