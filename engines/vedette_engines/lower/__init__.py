"""Lower the precision of a grafted engine: float16, static and dynamic int8.

All of them take and give the bytes of an ONNX file that keeps the engine contract. The nodes that were grafted on
(their names begin with `vedette/`) stay float32: a coordinate of a few hundred pixels has no room in eight bits.
"""
