"""The ways in which things are shown: help texts from docstrings, readable objects, progress of long work."""
