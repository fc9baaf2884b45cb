package messaging_test

import (
	"fmt"

	"example.com/orderflow/pkg/messaging"
)

// The topologies of two teams, of which one uses an exchange of the other. Each is valid by
// itself, and Merge joins them. If they contradict each other the error names the field.
func ExampleMerge() {
	orders := messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: "orders", Kind: messaging.Topic, Alternate: "amq.fanout"}},
	}
	jobs, mails := messaging.WorkQueue("mails", messaging.Retry{Limit: 5})
	mails.Exchanges = []messaging.Exchange{{Name: "orders", Kind: messaging.Topic, External: true}}
	mails.Bindings = []messaging.Binding{{Source: "orders", Destination: jobs.Name, Key: "order.paid.#"}}

	all := messaging.Merge(orders, mails)
	fmt.Println(orders.Validate(), mails.Validate(), all.Validate())
	fmt.Println(len(all.Exchanges), "exchange,", len(all.Queues), "queues")

	mails.Exchanges[0].Kind = messaging.Fanout
	fmt.Println(messaging.Merge(orders, mails).Validate())
	// Output:
	// <nil> <nil> <nil>
	// 1 exchange, 2 queues
	// exchange "orders": declared twice, with Kind topic and fanout
}
