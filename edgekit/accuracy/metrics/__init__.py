"""Metrics of regressors, classifiers, segmenters, detectors and recognisers, by the names that ``--metric`` takes."""
