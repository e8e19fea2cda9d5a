"""Models: import, verify, package, load and run them."""
