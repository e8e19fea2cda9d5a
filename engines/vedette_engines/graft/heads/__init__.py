"""The families of models that come with the tool, and how others join them."""
