// Package contract is what the services have agreed on, as data: every exchange,
// queue, binding and message on the wire, who may publish what, and the structs
// that publishers put into bodies. There is one file per owner. Tools read it to
// apply, verify and draw the topology; services import names from it and nothing
// else from each other.
//
// A consumer declares its own struct with only the fields that it uses.
//
// # Names
//
// What belongs to a message is named by the message's name on the wire, without its
// version:
//
//	payment.deadline.v1          on the wire
//	PaymentDeadline              its messaging.MessageType
//	PaymentDeadlineBody          the struct of its body
//	PaymentDeadlineRoute         where it is sent, if that is always the same
//	PricingQuoteProcedure        a call: pricing.quote.v1 and pricing.quote.reply.v1
//
// Types that have one body in common share the beginning of their names: OrderBody is that
// of order.placed.v1 and its like, PaymentBody that of payment.captured.v1 and its like. A
// later version is another name, with the version at its end: PaymentDeadlineV2.
//
// Queues and exchanges are named as on the broker: orders.expire is OrdersExpire. The queue
// pricing.quote, which has the name of a message, is PricingQuoteQueue. What is in a body
// and in no message alone, such as [Money], has a name of its own.
package contract
