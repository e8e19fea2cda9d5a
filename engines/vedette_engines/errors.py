"""The errors of the engines, one class per reaction.

```
EnginesError
├── BundleError            a folder is no usable engine: it is refused, others are not touched
│   └── ManifestError      its engine.toml is wrong
├── EngineNotFoundError    the name or version does not exist; says which do
├── LoadError              the runtime cannot run this file as it was asked to
│   └── MissingRuntimeError  the runtime is not installed; says which extra brings it
├── RunError               one batch failed; the lane can be used again
├── ImportInputError       an import cannot be done as it was asked for: ask differently
├── ImportRefusedError     a model is not published: it disagrees with its source
└── BuildError             the machine stood in the way of a build: a full disk, a folder that cannot be written
```

What ONNX and ONNX Runtime raise is translated where they are called; nothing of theirs leaves this package.
"""

from __future__ import annotations


class EnginesError(Exception):
    """Root of all errors of the engines."""


class BundleError(EnginesError):
    """A folder is no usable engine; the message says why."""


class ManifestError(BundleError):
    """An `engine.toml` is wrong; the message names key, value and what is allowed."""


class EngineNotFoundError(EnginesError):
    """No engine of that name or version; the message lists what there is."""


class LoadError(EnginesError):
    """The runtime cannot load or run the engine as it was asked to."""


class MissingRuntimeError(LoadError):
    """The runtime that the engine needs is not installed; the message names the extra."""


class RunError(EnginesError):
    """One batch failed; the lane can be used again."""


class ImportRefusedError(EnginesError):
    """A model is not published; the message says what is wrong with it."""


class BuildError(EnginesError):
    """The machine stood in the way of a build; the message names the thing. The same command can be tried again."""


class ImportInputError(EnginesError):
    """An import cannot be done as it was asked for; the message names the thing and what is allowed."""
