"""The command line: the parser, an opened run, and one verb a file."""
