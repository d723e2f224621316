"""Arrays in, arrays out: what happens to pixels between a provider and a net."""
