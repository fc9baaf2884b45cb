package report

// pageTemplate is docs/reliability.md.
const pageTemplate = `# What was broken, and what it cost: {what}

Written by "{command}" on {date}: the real containers on one machine with {cpus} CPUs, three replicas of each service; seed {seed}, {duration} of {rate} orders a second, a payment deadline of 30 s.

**{lastLine}**

| books | at the end |
|---|---|
{totals}
"Lost" is an order that was answered with 201 and is not in the database, or whose charge or payment deadline was never handled, or of which customer, webhook or audit stream were not told; "doubled" has more than one capture or refund at the payment provider, by the provider's own books, or is there twice for one customer; "stuck" has not come to its end five minutes after the last fault; "wrong" is one whose amounts or states differ between orders, billing and provider. Mails, webhooks and events may come twice, with the same key; money may not. A customer who gets no answer, or 503, tries again with the same key.

## The longest pause of each fault alone

The longest time without an order that came to its end, between the beginning of the fault and that of the next. It includes the time for which the part was away; billing is away too while deadlines fall due, and no customer comes before the queue is deleted. Outages of 6 min are longer than any number of attempts lasts; after them everything has caught up before the next fault.

{pauses}{notReady}
## Every fault

First each fault alone, and beside them those that break nothing for others; then two at once. The orders accepted are those from this fault to the next; the columns on the right are what became of them when all was over. "Absorbed" are messages that came again, or were overtaken, and changed nothing.

{outcomes}
![orders over time](chaos{suffix}.png)

"{command} SEED={seed} DURATION={duration} RATE={rate}" runs it again; the same seed gives the same faults in the same order. ONLY takes a regular expression on the names of faults and runs as long as these need: "{command} ONLY='PostgreSQL away' RATE=5". One more fault runs only when it is named: "{command} ONLY='database closed'" closes orders' database for 6 min while charges come in. The check itself is tested with planted faults, in memory (tools/orderctl/ledger) and in the real databases (e2e/chaos/chaos_test.go).
`
