"""Looks for what makes a run worthless, before its first step: on the real data and the freshly built model."""
