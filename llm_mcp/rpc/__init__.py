"""The wire of gRPC, generated from `proto/llm.proto` by `make stubs` and never edited."""
