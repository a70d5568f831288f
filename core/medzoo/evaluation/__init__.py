"""Measure synthetic images against real ones."""
