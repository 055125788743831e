"""One sort of fault at a time against real processes, and a checker of what is left of their jobs."""
