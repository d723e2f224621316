"""The nouns of the library: frozen dataclasses and pure functions, no input or output."""
