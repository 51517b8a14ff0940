"""One event with as many records as Lambda gives, 100 at a time, only the failed ones returned."""
