"""Compilation: a function of tensors becomes a graph, where a graph repays the time that its compilation takes."""
