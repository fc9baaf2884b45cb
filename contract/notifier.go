package contract

import (
	"maps"

	"example.com/orderflow/pkg/messaging"
)

// NotifierUser is the broker user of the notifier service.
const NotifierUser = "notifier"

// Notifications is notifier's headers exchange. It routes notifications to the senders of
// each channel.
const Notifications = "notifications"

// Headers of a notification, and their values.
const (
	HeaderChannel = "channel"
	HeaderUrgency = "urgency"

	ChannelEmail   = "email"
	ChannelWebhook = "webhook"
	UrgencyHigh    = "high"
	UrgencyNormal  = "normal"
)

// DefaultAddress is the mail address of a customer, valid for each id that [ValidCustomerID]
// accepts.
func DefaultAddress(customerID string) string { return customerID + "@example.com" }

// Notification is the only type that notifier publishes. It is also its consumer.
var Notification = messaging.MessageType{Name: "notification.v1", Exchange: Notifications, Owner: NotifierUser}

// NotificationBody is the body of notification.v1.
type NotificationBody struct {
	// Recipient is the customer's mail address. Webhooks do not use it.
	Recipient string         `json:"recipient"`
	Template  string         `json:"template"`
	Data      map[string]any `json:"data"`
	// DedupeKey is the same for every copy of one notification.
	DedupeKey string `json:"dedupe_key"`
}

// Queues that notifier consumes.
var (
	NotifierOrders   = workQueue("notifier.orders")
	NotifierReceipts = workQueue("notifier.receipts")
	NotifierEmail    = workQueue("notifier.email")
	NotifierWebhook  = workQueue("notifier.webhook")
)

// notifiedOrders are the keys of the order events that cause notifications to customers in
// these regions; none means all.
func notifiedOrders(regions ...string) (keys []string) {
	if len(regions) == 0 {
		return []string{"order.paid.#", "order.cancelled.#", "order.declined.#", "order.*.*.express"}
	}
	for _, r := range regions {
		keys = append(keys, "order.paid."+r+".#", "order.cancelled."+r+".#", "order.declined."+r+".#", "order.*."+r+".express")
	}
	return keys
}

func notifierTopology(regions ...string) messaging.Topology {
	queues, bindings := withDeadQueues(NotifierOrders, NotifierReceipts, NotifierEmail, NotifierWebhook)
	for _, key := range notifiedOrders(regions...) {
		bindings = append(bindings, messaging.Binding{Source: OrdersEvents, Destination: NotifierOrders.Name, Key: key})
	}
	bindings = append(bindings,
		messaging.Binding{Source: BillingEvents, Destination: NotifierReceipts.Name},
		messaging.Binding{Source: Notifications, Destination: NotifierEmail.Name,
			Match: match("all", map[string]any{HeaderChannel: ChannelEmail})},
		messaging.Binding{Source: Notifications, Destination: NotifierWebhook.Name,
			Match: match("any", map[string]any{HeaderChannel: ChannelWebhook, HeaderUrgency: UrgencyHigh})},
	)
	return messaging.Topology{
		Exchanges: []messaging.Exchange{{Name: Notifications, Kind: messaging.Headers}},
		Queues:    queues,
		Bindings:  bindings,
		Users: []messaging.User{service(NotifierUser, []string{Notifications, DeadLetters},
			[]string{NotifierOrders.Name, NotifierReceipts.Name, NotifierEmail.Name, NotifierWebhook.Name})},
		Types: []messaging.MessageType{Notification},
	}
}

// match makes the arguments of a binding to a headers exchange.
func match(how string, headers map[string]any) map[string]any {
	table := maps.Clone(headers)
	table["x-match"] = how
	return table
}
