"""Evidence of events: packets kept back, clips, snapshots, recordings, and how long their files stay."""
