// Command pricing-rpc stores the prices and answers calls for them.
package main

import (
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/pricing-rpc/app"
)

func main() { service.Main("pricing-rpc", app.New) }
