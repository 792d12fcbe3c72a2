"""What the bytes say: syntax only, bounded, and nothing here is trusted yet. Every refusal is ``MalformedEvidence`` or its kin."""
