"""Diffusion models on pixels and on latents."""
