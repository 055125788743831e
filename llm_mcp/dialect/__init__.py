"""OpenAI's dialect as words: what a request asks of a job, and what a job's result says. Pure."""
