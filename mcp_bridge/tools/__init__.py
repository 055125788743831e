"""The tools a model is shown, by what they are about."""
