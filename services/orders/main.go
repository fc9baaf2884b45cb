// Command orders takes orders and carries each to its end.
package main

import (
	"context"

	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/orders/app"
)

func main() {
	service.Main("orders", func(ctx context.Context, log *zap.Logger) error {
		config, err := service.Load[app.Config]()
		if err != nil {
			return err
		}
		a, err := app.New(ctx, config, log)
		if err != nil {
			return err
		}
		return a.Run(ctx)
	})
}
