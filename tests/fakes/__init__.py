"""Servers that speak IMAP over real sockets, look like the two providers, and misbehave on command.

gmail, outlook   the two faces: their capabilities, texts and oddities (PROVIDERS 1, 4 and 5)
faults           the vocabulary of misbehaviour, shared by both
imap_server      lifecycle, and what a test may ask afterwards: commands, violations, round trips
session, acting  one connection: reads commands and executes them; what each fault means
verbs, face      what each command does; what providers may do differently
rewriting        what Exchange makes of a message that was appended
wire, commands, mailboxes, answers, search, names    the parts of the protocol, one each
dynamodb         DynamoDB's protocol over tables in memory; _expressions: its conditions and updates; _faults:
                 what networks and AWS do to requests; _proxy: the same faults before another stand-in
relay            a TCP relay that delays, cuts and swallows
raw_client       a client that sends what it is told
fixtures         all this as pytest fixtures

They share no code with the product: a mistake in the product's parsers must not be mirrored here.
"""
