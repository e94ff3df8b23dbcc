"""Synthesis figures without vendor tools: cells, memory, and the longest path in LUT levels."""
