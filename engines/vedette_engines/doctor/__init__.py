"""What `vedette gpu check` finds out: what is here, what works, what would run where, and why the rest does not."""
