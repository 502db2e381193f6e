"""Readers of other systems' formats: each turns a piece of a request into columns of samples."""
