"""The jobs: train, sample, augment. Usable from Python without the command line."""
