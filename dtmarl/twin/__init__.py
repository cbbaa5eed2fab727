"""The digital twin: a model of its own that hears reports and never looks at the truth."""
