"""The contract of Vedette: generated protocol buffer stubs."""
