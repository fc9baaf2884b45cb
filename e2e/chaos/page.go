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

How long no order came to its end, from the strike to the next one. It includes the time for which the part was away; billing is away too while deadlines fall due, and nobody buys before the queue is deleted. Outages of 6 min are longer than any number of attempts lasts; after them everything has caught up before the next strike.

{longest}{heard}
## Every strike

First each fault alone, and beside them what breaks nothing for others; then two at once. The orders accepted are those from this strike to the next; the columns on the right are what became of them when all was over. "Absorbed" are messages that came again, or were overtaken, and changed nothing.

{table}
![orders over time](chaos{suffix}.png)

"{command} SEED={seed} DURATION={duration} RATE={rate}" runs it again; the same seed strikes with the same faults in the same order. ONLY takes a regular expression on the names of faults and runs as long as these need: "{command} ONLY='PostgreSQL away' RATE=5". One more strikes only when it is named: "{command} ONLY='database closed'" closes orders' database for 6 min while charges come in. The check itself is tested with planted faults, in memory (e2e/chaos/ledger_test.go) and in the real databases (e2e/chaos/chaos_test.go).
`
