"""The conditions of rules, each as a machine that is fed with what a frame brought."""
