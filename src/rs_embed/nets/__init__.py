"""Networks in plain torch: they know tensors and parameter names, no files and no geography."""
