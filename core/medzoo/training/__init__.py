"""Train generators and classifiers into a run folder that can be resumed."""
