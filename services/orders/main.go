// Command orders takes orders and carries each to its end.
package main

import (
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/orders/app"
)

func main() { service.Main("orders", app.New) }
