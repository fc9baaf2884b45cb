package main

// page is docs/reliability.md.
const page = `# What was broken, and what it cost: {what}

Written by "{command}" on {date}: the real containers on one machine with {cpus} CPUs, three replicas of each service; seed {seed}, {duration} of {rate} orders a second, a payment deadline of 30 s.

**{closing}**

| books | at the end |
|---|---|
{books}
"Lost" is an order that was answered with 201 and is not in the database, or whose charge or payment deadline was never handled, or of which customer, webhook or audit stream were not told; "doubled" has more than one capture or refund at the payment provider, by the provider's own books, or is there twice for one customer; "stuck" has not come to its end five minutes after the last fault; "wrong" is one whose amounts or states differ between orders, billing and provider. Mails, webhooks and events may come twice, with the same key; money may not. A customer who gets no answer, or 503, tries again with the same key.

## The longest pause of each fault alone

How long no order came to its end, from the strike to the next one. It includes the time for which the part was away; billing is away too while deadlines fall due, and nobody buys before the queue is deleted.

{longest}
## Every strike

First each fault alone, then two at once. The orders accepted are those from this strike to the next; the columns on the right are what became of them when all was over. "Absorbed" are messages that came again, or were overtaken, and changed nothing.

{table}
![orders over time](chaos{suffix}.png)

"{command} SEED={seed} DURATION={duration} RATE={rate}" runs it again; the same seed strikes with the same faults in the same order. The check itself is tested with planted faults, in memory (e2e/chaos/ledger_test.go) and in the real databases (e2e/chaos/chaos_test.go).
`
