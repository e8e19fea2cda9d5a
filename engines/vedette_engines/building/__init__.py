"""Take a model the whole way: export, graft, check, lower, compare, build, measure, publish.

`request.py` says what is wanted, `recipe.py` reads it from a file, `build.py` runs the stages in order, `step.py`
keeps what each of them made, and `report.py` tells what came of it.
"""
