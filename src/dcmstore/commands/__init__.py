"""One module a command of `dcmstore`: what was asked -> what is printed, and the exit code."""
