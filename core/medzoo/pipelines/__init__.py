"""The jobs: train, sample, augment, card. Usable from Python without the command line."""
