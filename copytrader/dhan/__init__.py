"""Everything that knows Dhan, and nothing else does.

`fields` reads JSON and the single fields of it, `codes` are Dhan's words and ours, `frames`
reads order updates and `bodies` REST answers; `requests` builds what is said to Dhan,
`transport` carries it, `answers` judges the reply, `broker` is one account made of these,
`stream` is its order-update socket and `master` the instruments.
"""
