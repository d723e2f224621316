"""Precomputed embeddings, read where they are published."""
