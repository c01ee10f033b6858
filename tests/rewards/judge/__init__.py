"""The LLM judge, against real servers on loopback."""
