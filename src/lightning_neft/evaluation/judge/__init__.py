"""Which of two answers is better, asked of a language model: an OpenAI-compatible endpoint or a local one."""
