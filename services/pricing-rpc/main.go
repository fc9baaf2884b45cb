// Command pricing-rpc keeps the prices and answers calls for them.
package main

import (
	"context"

	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/pricing-rpc/app"
)

func main() {
	service.Main("pricing-rpc", func(ctx context.Context, log *zap.Logger) error {
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
