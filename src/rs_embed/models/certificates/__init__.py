"""How the authors' constructors and forward arguments map to ours: a file a model, for ``rs-embed verify``."""
