"""The program `lightning_neft`: one file a verb, errors as one line."""
