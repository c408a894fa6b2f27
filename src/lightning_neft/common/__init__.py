"""What several rooms need, each once."""
