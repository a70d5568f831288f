"""Find how to use synthetic images on somebody's data, or that they do not help, and prove it once."""
