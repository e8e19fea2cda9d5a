"""The health of a camera: from small pictures and packets to events about the camera itself."""
