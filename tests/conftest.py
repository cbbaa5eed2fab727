"""Its place makes `playing` importable from every folder of tests: pytest adds it to the path."""
