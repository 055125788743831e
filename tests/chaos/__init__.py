"""A random mix of faults against real processes, and a checker of what is left: `make chaos`."""
