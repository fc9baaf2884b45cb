package main

// ours is the name of the contender whose ratios have targets.
const ours = "pkg/messaging"

func scenarios() []scenario {
	return []scenario{
		{
			name: "publish_1", what: "confirmed publish, one goroutine", messages: 20_000, publishes: true,
			contenders: []contender{
				{name: "raw tuned", start: rawTuned(1, window)},
				{name: ours, start: ourPublish},
				{name: "raw naive", share: 0.02, start: rawNaive(1)},
				{name: "raw tuned, 4 channels", start: rawTuned(4, window)},
				{name: "raw without confirms", start: rawUnconfirmed},
			},
		},
		{
			name: "publish_64", what: "confirmed publish, 64 goroutines that wait for each", messages: 20_000, publishes: true,
			contenders: []contender{
				{name: "raw tuned", start: rawTuned(1, window)},
				{name: ours, start: ourPublishAndWait(64)},
				{name: "pkg/messaging, 256 goroutines", start: ourPublishAndWait(256)},
				{name: "raw tuned, window of 64", start: rawTuned(1, 64)},
				{name: "raw naive, 8 goroutines", share: 0.1, start: rawNaive(8)},
			},
		},
		{
			name: "consume", what: "a backlog of 50,000, decoded and acknowledged", messages: 50_000, backlog: true,
			contenders: []contender{
				{name: "raw tuned", start: rawConsume(ackEvery)},
				{name: ours, start: ourConsume},
				{name: "raw naive", share: 0.2, start: rawConsume(1)},
			},
		},
		{
			name: "batch", what: "a backlog of 5,000, each message with its effect in a database, once", messages: 5_000, backlog: true,
			contenders: []contender{
				{name: "raw, a transaction each", start: rawTransactions},
				{name: ours, start: ourTransactions(batchSize)},
				{name: "pkg/messaging, a transaction each", start: ourTransactions(1)},
			},
		},
		{
			name: "rpc_1", what: "calls by one caller", messages: 2_000,
			contenders: []contender{{name: "raw direct reply-to", start: rawCalls(1)}, {name: ours, start: ourCalls(1)}},
		},
		{
			name: "rpc_64", what: "calls by 64 callers on one channel", messages: 20_000,
			contenders: []contender{{name: "raw direct reply-to", start: rawCalls(64)}, {name: ours, start: ourCalls(64)}},
		},
		{
			name: "latency", what: "publish to handled, at 500 messages a second", messages: 2_000,
			contenders: []contender{{name: "raw tuned", start: rawPaced}, {name: ours, start: ourPaced}},
		},
	}
}
