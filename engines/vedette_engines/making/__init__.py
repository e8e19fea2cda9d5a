"""Make the engines that come in the box; each module is run with `python -m vedette_engines.making.NAME OUT`."""
