"""Do the accounts agree?  The picture, the reasons, and the plan that would close the gap.

    picture     a moment's rows and findings, as values
    evidence    what all rows are judged by: fresh books, and what the state makes of them
    comparing   takes the picture: what each follower should hold, and what it holds
    reasons     why a row is as it is
    findings    what is wrong with single orders, whatever the positions say
    planning    the orders that would close the gap

Nothing here sends, or changes the state it is given.
"""
