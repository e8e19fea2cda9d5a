"""Compare engines with their source, with each other, and with the truth: plain data in, plain data out.

`running.py` runs an engine over frames, `tensors.py` compares with the source framework, `agreement.py` engine with
engine, `truth.py` with what somebody else says is there, `layers.py` layer by layer; `gates.py` judges.
"""
