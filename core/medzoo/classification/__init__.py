"""Predict with classifiers, and score their predictions."""
