"""The embedded device, inside: Ollama's HTTP interface on one side, llama.cpp's processes on the other.

inlet, handler, server   one bounded HTTP connection after another
routes, wire             which path answers what; errors and JSON as Ollama writes them
text_request, prompt, options, duration, gotemplate, grammar   what a caller asks for, read and checked
text, vectors, reading   generations and embeddings, as they stream out of the engine
residents                which models are loaded, and whose turn it is
runner, engine           one llama.cpp process for each loaded model
catalog, gguf            the models there are, and what their files say about themselves
state                    the file by which others find the device
"""
