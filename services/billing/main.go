// Command billing charges and refunds the payments of orders.
package main

import (
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/billing/app"
)

func main() { service.Main("billing", app.New) }
