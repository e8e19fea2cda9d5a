"""Version 1 of the contract; the .proto files beside the stubs are its documentation."""
