"""The second stage: classifiers and embedders that look closer at what a channel's detector found."""
