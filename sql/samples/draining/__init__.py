"""The background work: arrivals become runs, runs become blocks, and past days go."""
