// Package contract describes, as data, what the services have agreed on: every exchange,
// queue, binding and message, who may publish what, and the structs of the bodies. There is
// one file for each owner. Tools use it to apply and verify the topology. Services do
// not import each other; they share only this package.
//
// A consumer declares its own struct with only the fields that it uses.
//
// # Names
//
// The Go names of a message are made from its name on the wire, without the version:
//
//	payment.deadline.v1          on the wire
//	PaymentDeadline              its messaging.MessageType
//	PaymentDeadlineBody          the struct of its body
//	PaymentDeadlineRoute         its route, if that is always the same
//	PricingQuoteProcedure        a call: pricing.quote.v1 and pricing.quote.reply.v1
//
// Types with a common body share the beginning of their names: OrderBody is the body of
// order.placed.v1 and the other order.*.v1, PaymentBody that of payment.captured.v1 and the
// other events of payments. A later version has the version at its end: PaymentDeadlineV2.
//
// Queues and exchanges are named as on the broker: orders.expire is OrdersExpire. The queue
// pricing.quote has the same name as a message, so it is PricingQuoteQueue. Types that are
// parts of several bodies, such as [Money], have names of their own.
package contract
