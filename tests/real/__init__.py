"""Programs through the public command."""
