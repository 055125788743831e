"""The command line: `llm-mcp`. A door too; it starts the other doors by import string."""
