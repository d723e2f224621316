"""Writing embeddings in the field's open formats."""
