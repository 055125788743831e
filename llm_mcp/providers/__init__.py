"""Model providers: one protocol, one file per dialect, and a scripted fake. See `base`."""
