"""The gallery: a static site of models and of augmented data, which opens by double click."""
