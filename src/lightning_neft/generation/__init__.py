"""Answers of a fine-tuned model to prompts and chats."""
