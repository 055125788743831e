"""What a model sees of the bridge: a server in this process, a real core behind it, and a worker played by the test."""
