"""What the suites share: here the values that tests of every kind speak of, and four rooms.

* `programs`: the real programs that tests run against, and what can be done to them.
* `services`: the service over a test database, in the process of the test.
* `storage`: the storage driven by hand, models of what it keeps, and the contract of every store.
* `formats`: what senders and readers exchange, byte by byte and without our own code.
"""
