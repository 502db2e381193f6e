"""Remote write 2.0, whose series name their labels by numbers of symbols."""
