"""What every server of ours stands on: logs that cannot carry content, and HTTP connections that repeat nothing."""
