"""The MCP bridge: other language models, and plain HTTP clients, use the fleet as a tool. It asks the core by gRPC."""
