"""From a plan to vectors: geometry and time, weights, the engine, pooling, and the certificates."""
