"""The agent program: registers, polls, runs three slots of work at a time. No Django."""
