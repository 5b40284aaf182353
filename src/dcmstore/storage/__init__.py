"""PS3.10 files and the folder tree: fragments of a data set -> a stored instance. No network."""
