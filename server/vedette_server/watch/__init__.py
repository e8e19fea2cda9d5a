"""Shows what was found and what happened to those who ask: pages, pictures, checks, and watching as it comes."""
