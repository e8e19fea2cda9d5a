"""The errors of cameras that the server calls; `RefusedError` stands in `vedette_server.errors`.

```
VedetteError
└── SourceError        one try at one camera: it is told, and tried again later
```
"""

from __future__ import annotations

from vedette_server.errors import VedetteError


class SourceError(VedetteError):
    """A camera or a file cannot be opened, or failed half-way; the message holds no password."""
