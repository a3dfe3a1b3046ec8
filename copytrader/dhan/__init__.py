"""Everything that knows Dhan, and nothing else does.

`wire` reads what Dhan says, `requests` builds what is said to Dhan, `transport`
carries it, `answers` judges the reply, `broker` is one account made of these,
`stream` is its order-update socket and `master` the instruments.
"""
