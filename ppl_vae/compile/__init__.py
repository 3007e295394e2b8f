"""From a function of tensors to a graph, and when a graph repays its compilation."""
