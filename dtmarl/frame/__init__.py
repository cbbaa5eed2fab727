"""The frame layer: who is associated with whom, and who is retrained."""
