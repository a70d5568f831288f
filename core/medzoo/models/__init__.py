"""Models in memory and on disk: model.safetensors and config.json."""
