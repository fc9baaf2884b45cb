// Command orders takes orders and moves each one to its final status.
package main

import (
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/orders/app"
)

func main() { service.Main("orders", app.New) }
