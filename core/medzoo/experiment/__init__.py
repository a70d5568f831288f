"""Experiments: classifiers trained on arms of real and synthetic images over folds or seeds, and what that shows."""
