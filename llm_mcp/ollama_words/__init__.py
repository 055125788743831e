"""Ollama's dialect as words: for the device that speaks it, and for the door that listens to its clients. Pure."""
