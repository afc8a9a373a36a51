"""Commands that prepare a network for a device: from listing models to bundles and engines."""
